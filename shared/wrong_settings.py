"""Sentences about wrong settings; they show no value."""

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from pydantic import ValidationError

PREFIX: Final = "STILLREEL_"

ELSEWHERE: Final = ("BIND", "MODELS", "CLOSE_INSIDE", "SECRETS_DIR", "REMOTE_ENGINES")
"""Names that only Compose and the start of a process read."""


def wrong_settings(error: ValidationError) -> str:
    """Return each wrong setting with what would be right, as one sentence."""
    return "; ".join(
        f"{_variable(found['loc'])}: {_in_words(found['type'], found['msg'], found.get('ctx'))}"
        for found in error.errors(include_url=False)
    )


def misspelled_settings(given: Iterable[str], known: Iterable[str]) -> Iterator[str]:
    """Yield a sentence for each variable whose name is like that of a setting, but is none.

    Args:
        given: names of variables, ours and others.
        known: the settings' own names, without the prefix.
    """
    names = [name.upper() for name in (*known, *ELSEWHERE)]
    for variable in sorted(set(given)):
        name = variable.removeprefix(PREFIX)
        if name != variable and name not in names:
            nearest = difflib.get_close_matches(name, names, n=1)
            hint = f"; did you mean {PREFIX}{nearest[0]}?" if nearest else ", and has no effect"
            yield f"{variable} is no setting{hint}"


def open_to_strangers(host: str) -> str:
    """Return why a gateway does not listen there before there is a key, and what to do."""
    return (
        f"STILLREEL_HOST {host} is not loopback, and there is no API key; make one"
        " (`make key NAME=cms` while it runs on loopback, or `python -m api keys create cms`),"
        " set STILLREEL_ADMIN_KEY, or let everybody in with STILLREEL_ALLOW_ANONYMOUS=1"
    )


def _in_words(kind: str, message: str, context: Mapping[str, Any] | None) -> str:
    """Return pydantic's finding in our words; it contains no value."""
    if kind == "value_error":
        return str((context or {})["error"])
    said = message.partition(", unable to")[0].replace("Input should be", "it should be")
    return said.replace("valid integer", "whole number").replace("a valid boolean", "0 or 1")


def _variable(loc: Sequence[int | str]) -> str:
    return f"{PREFIX}{'_'.join(map(str, loc))}".upper()
