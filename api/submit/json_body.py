"""JSON from clients, refused where it would cost more to read than any request needs."""

from typing import Any, Final

from pydantic import BaseModel, ConfigDict
from pydantic_core import from_json

from shared.errors import InvalidRequest

MAX_MARKS: Final = 100_000
"""Commas and brackets in a text: 33 MiB of `[],` would be 700 MiB of empty lists.

50 values of metadata, a prompt and its negative hold 30,000 characters at most; base64 has none.
"""

_MARKS: Final = (b",", b"[", b"{")


class KnownNames(BaseModel):
    """A JSON body that may hold no other names than its fields': a misspelled one is refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def read_json(text: bytes, name: str, *, param: str | None = None) -> Any:
    """Return what the text says; `name` is what it is called in a refusal.

    Raises:
        InvalidRequest: it is not JSON, nested deeper than 200, or has too many values.
    """
    if sum(map(text.count, _MARKS)) > MAX_MARKS:
        raise InvalidRequest(
            f"{name} has too many values; the JSON takes {MAX_MARKS} commas and brackets at most",
            param=param,
        )
    try:
        return from_json(text, allow_inf_nan=False)
    except ValueError as error:
        raise InvalidRequest(f"{name} is not JSON: {error}", param=param) from error
