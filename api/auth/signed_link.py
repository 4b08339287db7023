"""The way in of a signed link: GET and HEAD of the one file that it names, and of nothing else."""

import re
from typing import Final
from urllib.parse import parse_qsl

from starlette.types import Scope

from shared.errors import LinkExpired, LinkRefused
from shared.jobs.job import Variant, parse_id
from shared.jobs.links import EXPIRED, FORGED, Links, SignedLink

METHODS: Final = frozenset({"GET", "HEAD"})

_PATH: Final = re.compile(r"/v1/jobs/(job_[0-9a-f]{32})/content")
_VARIANTS: Final = frozenset(Variant)


def read_link(scope: Scope, links: Links, *, now: float) -> SignedLink | None:
    """Return the good link that a request is, or None where it is none at all.

    Args:
        now: Unix seconds.

    Raises:
        LinkRefused: we have not signed it, or for another file.
        LinkExpired: its time is over.
    """
    match = _PATH.fullmatch(scope["path"])
    if match is None or scope["method"] not in METHODS:
        return None
    pairs = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
    given = [value for name, value in pairs if name == "link"]
    if not given:
        return None
    variants = [value for name, value in pairs if name == "variant"] or [Variant.VIDEO]
    # Twice would be read in two ways: by the signature one, by the route the other.
    if len(given) > 1 or len(variants) > 1 or variants[0] not in _VARIANTS:
        raise LinkRefused(FORGED)
    link = links.read(given[0], job_id=parse_id(match[1]), variant=Variant(variants[0]))
    if link is None:
        raise LinkRefused(FORGED)
    if link.has_expired(now):
        raise LinkExpired(EXPIRED)
    return link
