"""The headers by which a client says how it wants to be answered (RFC 7240, Idempotency-Key)."""

import hashlib
import json
import re
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Final

from fastapi import Depends, Header

from api.bodies import ImageUrl
from shared.errors import InvalidRequest
from shared.wire import CreateJob

MAX_WAIT_SECONDS: Final = 60

_WAIT: Final = re.compile(r"wait=\"?(\d{1,9})\"?", re.IGNORECASE)
_TOKEN: Final = re.compile(r"[\x21-\x7e]{1,255}")


@dataclass(frozen=True)
class Preferences:
    """`wait` is None where the client did not ask to wait."""

    wait: timedelta | None
    respond_async: bool


async def preferences(
    prefer: Annotated[
        str | None,
        Header(
            description="`wait=n` waits up to n seconds (0 to 60); `respond-async` not at all."
        ),
    ] = None,
) -> Preferences:
    """Read `Prefer`; what cannot be read is ignored, as its RFC asks."""
    wait, respond_async = None, False
    for part in (prefer or "").split(","):
        match = _WAIT.fullmatch(part.strip())
        if match is not None:
            wait = timedelta(seconds=min(int(match[1]), MAX_WAIT_SECONDS))
        if part.strip().lower() == "respond-async":
            respond_async = True
    return Preferences(wait, respond_async)


async def idempotency_key(
    idempotency_key: Annotated[
        str | None, Header(description="The same key and request give the same job.")
    ] = None,
) -> str | None:
    """Return the key, sent bare or as a quoted string.

    Raises:
        InvalidRequest: it is empty, too long or not plain ASCII.
    """
    if idempotency_key is None:
        return None
    key = idempotency_key.strip()
    if len(key) > 1 and key[0] == key[-1] == '"':
        key = key[1:-1]
    if not _TOKEN.fullmatch(key):
        raise InvalidRequest(
            "the Idempotency-Key must have 1 to 255 visible ASCII characters, without blanks",
            param="Idempotency-Key",
        )
    return key


def fingerprint(fields: CreateJob, image: bytes | ImageUrl) -> str:
    """Return what makes two requests the same, however they were spelled.

    Of a picture behind a URL that is the URL: a key that made a job is answered without a look.
    """
    # Without defaults: a release that adds a field still knows the requests from before it.
    said = fields.model_dump(mode="json", exclude_defaults=True)
    digest = hashlib.sha256(json.dumps(said, sort_keys=True).encode())
    if isinstance(image, ImageUrl):
        digest.update(b"url\0" + image.url.encode())
    else:
        digest.update(hashlib.sha256(image).digest())
    return digest.hexdigest()


Preferring = Annotated[Preferences, Depends(preferences)]
Idempotency = Annotated[str | None, Depends(idempotency_key)]
