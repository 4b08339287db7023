"""Values that say nothing: pages and no-code tools send every input they have, also empty ones.

A blank value counts as not sent. Values of metadata may be blank.
"""

from collections.abc import Mapping
from typing import Any, Final

WORDS: Final = frozenset({"null", "undefined", "None", "NaN"})
"""What programs write for a value that they do not have."""

_TEXTS: Final = frozenset({"prompt", "negative_prompt"})
"""Fields in which these are words like others."""

_WEBHOOK: Final = "webhook"


def without_blanks(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values that say something."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        said = value
        if name == _WEBHOOK and isinstance(value, dict):
            said = {key: inner for key, inner in value.items() if not is_blank(inner, key)}
        if not is_blank(said, name):
            found[name] = said
    return found


def is_blank(value: object, name: str) -> bool:
    """Say whether a value is none; PHP writes `[]` for an empty object."""
    if isinstance(value, str):
        return not value.strip() or (name not in _TEXTS and value.strip() in WORDS)
    return value is None or (isinstance(value, dict | list) and not value)
