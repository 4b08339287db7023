"""A part of a client's input, short enough to repeat in an error or a log."""

from collections.abc import Mapping
from typing import Final

MOST: Final = 60
"""Characters of any repeated text; the whole may be as large as a body."""

_LONGEST_NUMBER: Final = 200
"""Bits: numbers with more digits are counted and not written, because writing takes quadratic
time."""


def excerpt(value: object) -> str:
    """Return the beginning of a value as Python writes it, at the same cost for any size."""
    if isinstance(value, str | bytes):
        return _cut(repr(value[:MOST]), is_cut=len(value) > MOST)
    if isinstance(value, int) and value.bit_length() > _LONGEST_NUMBER:
        return f"a number of {value.bit_length()} bits"
    if isinstance(value, Mapping | list | tuple):
        return _of_many(value)
    return _cut(repr(value), is_cut=False)


def begin(text: str, most: int = MOST) -> str:
    """Return a text's beginning, without quotes."""
    return text if len(text) <= most else f"{text[:most]}…"


def _of_many(value: "Mapping[object, object] | list[object] | tuple[object, ...]") -> str:
    if not value:
        return repr(value)
    kind = "an object" if isinstance(value, Mapping) else "a list"
    return f"{kind} of {len(value)} {'entry' if len(value) == 1 else 'entries'}"


def _cut(shown: str, *, is_cut: bool) -> str:
    if len(shown) > MOST:
        return f"{shown[:MOST]}…"
    return f"{shown}…" if is_cut else shown
