"""How large a request's body may be: small, unless its route says that it takes an image."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from starlette.datastructures import Headers

from shared.errors import BodyTooLarge
from shared.settings import Settings

SMALL_BODY_BYTES: Final = 64 * 1024
"""The limit of most routes; the largest of their bodies needs 4 KiB."""

FORM_SLACK_BYTES: Final = 1024 * 1024
"""The space for the rest of a form beside its image: fields, boundaries, headers of parts."""

BATCH_BYTES: Final = 256 * 1024 * 1024
"""The limit for all images of a batch together."""
ENCODED: Final = 1.5
"""An image as base64 takes 4/3 of its bytes, and more with line breaks or escapes."""

_MOST_DIGITS: Final = 20

_Handler = TypeVar("_Handler", bound=Callable[..., Any])


@dataclass(frozen=True)
class BodyLimit:
    """The limit of a route's body, and what its client could send less of."""

    bytes: int
    remedy: str

    def refusal(self) -> BodyTooLarge:
        return BodyTooLarge(f"the request's body is larger than {self.bytes} bytes; {self.remedy}")


# Four times the slack of one image, because a hundred items have fields of their own.
LARGEST: Final = BodyLimit(
    BATCH_BYTES + 4 * FORM_SLACK_BYTES, "send the images in several batches"
)

SMALL: Final = BodyLimit(SMALL_BODY_BYTES, "no request of this kind needs more")


def takes_image(handler: _Handler) -> _Handler:
    """Let a body hold an image of MAX_UPLOAD_BYTES, also as base64, and the rest of a form."""
    handler.__dict__["takes_image"] = True
    return handler


def takes_batch(handler: _Handler) -> _Handler:
    """Let a route's body hold the images of a whole batch, and the rest of a form."""
    handler.__dict__["takes_batch"] = True
    return handler


def body_limit(endpoint: Callable[..., Any], settings: Settings) -> BodyLimit:
    """Return the limit that a handler declares."""
    if getattr(endpoint, "takes_batch", False):
        return LARGEST
    return with_image(settings) if getattr(endpoint, "takes_image", False) else SMALL


def with_image(settings: Settings) -> BodyLimit:
    """Return the limit of a body that holds one image."""
    encoded = int(settings.max_upload_bytes * ENCODED)
    return BodyLimit(encoded + FORM_SLACK_BYTES, "send a smaller image")


def largest_body(settings: Settings) -> BodyLimit:
    """Return the largest limit that a route has."""
    return max(LARGEST, with_image(settings), key=lambda limit: limit.bytes)


def declared_bytes(headers: Headers) -> int:
    """Return the value of Content-Length; a number with too many digits counts as too long."""
    digits = headers.get("content-length", "").lstrip("0")
    return int(digits[:_MOST_DIGITS]) if digits.isdecimal() else 0
