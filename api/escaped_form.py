"""Forms as `application/x-www-form-urlencoded`, read with work that grows linearly."""

import re
from typing import Final

from api.submit.charsets import readable
from shared.errors import InvalidRequest

MAX_ESCAPES: Final = 1_500_000
"""An image of 32 MiB as base64 has a million: two of base64's 64 characters are escaped."""

_ESCAPE: Final = re.compile(rb"%([0-9A-Fa-f]{2})")
_BYTES: Final = {
    digits: bytes([value])
    for value in range(256)
    for digits in {f"{value:02x}".encode(), f"{value:02X}".encode()}
}


def read_escaped(body: bytes, *, max_fields: int) -> list[tuple[str, str]]:
    """Return the names and values of a form, in order.

    Raises:
        InvalidRequest: there are too many of them, or too many escapes.
    """
    if body.count(b"%") > MAX_ESCAPES:
        raise InvalidRequest(
            f"the form has more than {MAX_ESCAPES} percent escapes; send it as multipart/form-data"
        )
    if body.count(b"&") > max_fields:
        raise InvalidRequest(f"the form has too many fields; it takes {max_fields} at most")
    pairs = [piece.partition(b"=") for piece in body.split(b"&") if piece]
    return [(_unescaped(name), _unescaped(value)) for name, _, value in pairs]


def _unescaped(escaped: bytes) -> str:
    blanks = escaped.replace(b"+", b" ")
    return readable(_ESCAPE.sub(_one_byte, blanks))


def _one_byte(escape: re.Match[bytes]) -> bytes:
    digits = escape[1]
    return _BYTES.get(digits) or _BYTES[digits.lower()]
