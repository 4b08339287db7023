"""Sentences about wrong settings; they show no value."""

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from pydantic import ValidationError

PREFIX: Final = "STILLREEL_"

ELSEWHERE: Final = (
    "BIND",
    "MODELS",
    "CLOSE_INSIDE",
    "SECRETS_DIR",
    "REMOTE_ENGINES",
    "LAUNCHED_FROM",
)
"""Names that only Compose and the start of a process read."""

OF_LIBRARIES: Final = "hf_"
"""The hub's library reads these names without our prefix."""

NEAR: Final = 0.85
"""How alike a misspelled prefix is to ours, as difflib counts; STILREEL has 0.94."""


def wrong_settings(error: ValidationError) -> str:
    """Return each wrong setting with what would be right, as one sentence."""
    return "; ".join(
        f"{_variable(found['loc'])}: {_in_words(found['type'], found['msg'], found.get('ctx'))}"
        f"{_unit(found['type'], _variable(found['loc']))}"
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
        name = _own_name(variable)
        if name is None or (variable == PREFIX + name and name in names):
            continue
        shown = variable.encode(
            "ascii", "backslashreplace"
        ).decode()  # Some letters are invisible.
        of_file = name.removesuffix("_FILE")
        if of_file != name and of_file in names:
            yield (
                f"{shown} is no setting; to read {PREFIX}{of_file} from a file, name the file"
                f" {of_file.lower()}, and its folder in {PREFIX}SECRETS_DIR"
            )
            continue
        nearest = difflib.get_close_matches(name, names, n=1)
        hint = f"; did you mean {PREFIX}{nearest[0]}?" if nearest else ", and has no effect"
        yield f"{shown} is no setting{hint}"


def unprefixed_settings(given: Iterable[str], known: Iterable[str]) -> Iterator[str]:
    """Yield a sentence for each name in `.env` that lacks only the prefix of a setting."""
    names = {name.upper() for name in known if not name.startswith(OF_LIBRARIES)}
    for name in sorted(names.intersection(given)):
        yield f"{name} in .env is no setting; did you mean {PREFIX}{name}?"


def _own_name(variable: str) -> str | None:
    """Return what follows our prefix, also a misspelled one; None for names of others."""
    begin, dash, name = variable.partition("_")
    is_near = difflib.SequenceMatcher(None, begin, PREFIX[:-1]).ratio() >= NEAR
    return name if dash and is_near else None


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
    return (
        said.replace("valid integer", "whole number")
        .replace("a valid boolean", "0 or 1")
        .replace("valid number", "number")
    )


def _unit(kind: str, variable: str) -> str:
    """Return the unit that a number lacks, with an example, to follow "it should be a number"."""
    if not kind.startswith(("int_", "float_")):
        return ""
    if variable.endswith("_SECONDS"):
        return " of seconds (ten minutes are 600)"
    return " of bytes (2 GB are 2000000000)" if variable.endswith("_BYTES") else ""


def _variable(loc: Sequence[int | str]) -> str:
    return f"{PREFIX}{'_'.join(map(str, loc))}".upper()
