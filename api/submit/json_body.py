"""JSON from clients, refused if it would cost more to read than any request needs."""

import re
from typing import Any, Final

from pydantic import BaseModel, ConfigDict
from pydantic_core import from_json

from shared.errors import InvalidRequest
from shared.excerpt import begin

MAX_MARKS: Final = 100_000
"""Commas and brackets in a text: 33 MiB of `[],` would be 700 MiB of empty lists.

50 values of metadata, a prompt and its negative hold 30,000 characters at most; base64 has none.
"""

MAX_ENTRIES: Final = 100
"""Of one list or object: a validator makes an error of half a kilobyte for each wrong entry.

The largest that any request needs is metadata's 50.
"""

MAX_DEPTH: Final = 8
"""A create needs three."""

BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
""".NET and editors on Windows write it before a text in UTF-8."""

_UTF_16: Final = (b"\xff\xfe", b"\xfe\xff")
"""Without these each letter of the first four bytes has zeros beside it."""

_MARKS: Final = (b",", b"[", b"{")
_GZIP: Final = b"\x1f\x8b"
_NOT_NUMBERS: Final = re.compile(rb"[:\[,]\s*-?(?:NaN|Infinity)\b")
_HINTS: Final = (
    ("invalid unicode code point", "its bytes are not UTF-8; send JSON in UTF-8"),
    ("hex escape", "it has half of a character, like \\ud83d without its other half"),
)
"""What the parser's words mean to whoever wrote the JSON."""


class KnownNames(BaseModel):
    """A JSON body that may have no other names than its fields: a misspelled name is refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def read_json(text: bytes, name: str, *, param: str | None = None) -> Any:
    """Return the value of the text; `name` is used for it in errors.

    Raises:
        InvalidRequest: it is not JSON, nested too deep, has too many values, or a NUL.
    """
    if text.startswith(_GZIP):
        raise InvalidRequest(f"{name} is compressed with gzip; send it uncompressed", param=param)
    if text.startswith(_UTF_16) or b"\0" in text[:4]:
        raise InvalidRequest(
            f"{name} is in UTF-16, or another alphabet of wide letters; send JSON in UTF-8",
            param=param,
        )
    text = text.removeprefix(BYTE_ORDER_MARK)
    if sum(map(text.count, _MARKS)) > MAX_MARKS:
        raise InvalidRequest(
            f"{name} has too many values; the JSON takes {MAX_MARKS} commas and brackets at most",
            param=param,
        )
    try:
        value = from_json(text, allow_inf_nan=False)
    except ValueError as error:
        why = _reason(error, text)
        raise InvalidRequest(f"{name} is not JSON: {why}", param=param) from error
    _check_shape(value, name, param)
    return value


def is_json(content_type: str) -> bool:
    """Say whether a Content-Type means JSON, also of a kind of its own."""
    kind = content_type.partition(";")[0].strip().lower()
    return kind in {"application/json", "text/json"} or (
        kind.startswith("application/") and kind.endswith("+json")
    )


def _reason(error: ValueError, text: bytes) -> str:
    """Return what is wrong with a text that is no JSON, and where."""
    said = str(error)
    if said.startswith(("expected value", "invalid number")) and _NOT_NUMBERS.search(text):
        return f"it has no NaN and no Infinity; leave the field out ({said})"
    return next((f"{hint} ({said})" for words, hint in _HINTS if words in said), said)


def _check_shape(value: Any, name: str, param: str | None) -> None:
    """Refuse the first list or object that is too long or too deep, naming its field."""
    level: list[tuple[str, Any]] = [(name, value)]
    for depth in range(MAX_DEPTH + 1):
        below: list[tuple[str, Any]] = []
        for field, each in level:
            if not isinstance(each, dict | list):
                continue
            if len(each) > MAX_ENTRIES:
                raise InvalidRequest(
                    f"{begin(field)} has {len(each)} entries; a list or object takes"
                    f" {MAX_ENTRIES} at most",
                    param=param if field == name else begin(field),
                )
            if isinstance(each, dict):
                below += each.items() if depth == 0 and param is None else _under(field, each)
            else:
                below += [(field, inner) for inner in each]
        level = below
    if any(isinstance(each, dict | list) for _, each in level):
        raise InvalidRequest(f"{name} is nested deeper than {MAX_DEPTH} levels", param=param)


def _under(field: str, values: dict[str, Any]) -> list[tuple[str, Any]]:
    return [(field, inner) for inner in values.values()]
