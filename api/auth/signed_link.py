"""Access by a signed link: GET and HEAD of the one file that it names, and of nothing else.

The file is one of a job, or the zip of a batch.
"""

import re
from collections.abc import Sequence
from typing import Final
from urllib.parse import parse_qsl
from uuid import UUID

from starlette.types import Scope

from shared.errors.access import LinkExpired, LinkRefused
from shared.jobs.job import Variant
from shared.jobs.links import EXPIRED, FORGED, ZIP, Links, SignedLink

METHODS: Final = frozenset({"GET", "HEAD"})

_PATH: Final = re.compile(r"/v1/(?:jobs/job|batches/(batch))_([0-9a-f]{32})/content")
_VARIANTS: Final = frozenset(Variant)


def read_link(scope: Scope, links: Links, *, now: float) -> SignedLink | None:
    """Return the valid link of a request, or None if the request has no link.

    Args:
        now: Unix seconds.

    Raises:
        LinkRefused: we did not sign it, or we signed it for another file.
        LinkExpired: it has expired.
    """
    match = _PATH.fullmatch(scope["path"])
    if match is None or scope["method"] not in METHODS:
        return None
    pairs = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
    given = [value for name, value in pairs if name == "link"]
    if not given:
        return None
    # A doubled value could be read in two ways: one by the signature, the other by the route.
    if len(given) > 1:
        raise LinkRefused(FORGED)
    variant = ZIP if match[1] else _variant(pairs)
    link = links.read(given[0], id=UUID(hex=match[2]), variant=variant)
    if link is None:
        raise LinkRefused(FORGED)
    if link.has_expired(now):
        raise LinkExpired(EXPIRED)
    return link


def _variant(pairs: Sequence[tuple[str, str]]) -> Variant:
    variants = [value for name, value in pairs if name == "variant"] or [Variant.VIDEO]
    if len(variants) > 1 or variants[0] not in _VARIANTS:
        raise LinkRefused(FORGED)
    return Variant(variants[0])
