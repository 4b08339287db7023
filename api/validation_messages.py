"""Validation errors in sentences: which field, what is wrong, what would be right."""

import difflib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from shared.errors import InvalidRequest, UnknownParameter
from shared.excerpt import MOST, begin, excerpt

SENTENCES: Final = 3
READ: Final = 20
"""Errors that are read: a body may have thousands, and nobody reads these."""

NEAR: Final = 0.69
"""How alike a name must be to be suggested: `seconds` is not meant for `retain_seconds`."""

LONGEST_MESSAGE: Final = 200
SOURCES: Final = frozenset({"query", "path", "header", "cookie", "body"})


def explain(errors: Sequence[Any], known: Sequence[str] = ()) -> InvalidRequest:
    """Return pydantic's findings as one error; its `param` is the first field's.

    Args:
        errors: as `ValidationError.errors()` gives them, at least one; the first few are read.
        known: the names a field may have, for the nearest one to a misspelled name.
    """
    read = errors[:READ]
    unknown = next((error for error in read if error["type"] == "extra_forbidden"), None)
    if unknown is not None:
        return unknown_field(_name(unknown["loc"]), known)
    # A list whose only entry is wrong is also reported as empty.
    parents = {tuple(error["loc"][:end]) for error in read for end in range(len(error["loc"]))}
    told = [error for error in read if tuple(error["loc"]) not in parents]
    sentences = [_sentence(error) for error in told[:SENTENCES]]
    more = len(errors) - len(read) + len(told) - len(sentences)
    if more:
        sentences.append(f"and {more} more")
    return InvalidRequest("; ".join(sentences), param=_name(told[0]["loc"]))


def unknown_field(name: str, known: Sequence[str]) -> UnknownParameter:
    nearest = difflib.get_close_matches(name[:MOST], known, n=1, cutoff=NEAR)
    hint = f"; did you mean {nearest[0]}?" if nearest else f"; known are {', '.join(known)}"
    return UnknownParameter(
        f"there is no field {excerpt(name)}{hint if known else ''}", param=name[:MOST]
    )


def misplaced_field(name: str) -> UnknownParameter:
    return UnknownParameter(
        f"{excerpt(name)} is in the query of the URL, where this request has no fields; send it"
        " in the body, as a field of the form or of the JSON",
        param=name[:MOST],
    )


def _name(loc: Sequence[str | int]) -> str:
    """Return a field's name as clients write it: `metadata[k]` is `metadata.k`."""
    parts = [str(part)[:MOST] for part in loc if part != "[key]"]
    if len(parts) > 1 and parts[0] in SOURCES:
        parts = parts[1:]
    return ".".join(parts)


def _sentence(error: Mapping[str, Any]) -> str:
    name = _name(error["loc"])
    say = _WORDS.get(error["type"])
    if say is None:
        message = begin(str(error["msg"]), LONGEST_MESSAGE)
        is_word = message[1:2].islower()  # "URL" stays as it is.
        return f"{name}: {message[:1].lower() if is_word else message[:1]}{message[1:]}"
    return f"{name} {say(excerpt(error.get('input')), error.get('ctx') or {})}"


_Say = Callable[[str, Mapping[str, Any]], str]


def _whole(shown: str, _: Mapping[str, Any]) -> str:
    return f"must be a whole number, not {shown}"


def _number(shown: str, _: Mapping[str, Any]) -> str:
    return f"must be a number, not {shown}"


def _choice(shown: str, context: Mapping[str, Any]) -> str:
    return f"{shown} is not known; it takes {context['expected']}"


def _many(_: str, context: Mapping[str, Any]) -> str:
    most, actual = context["max_length"], context.get("actual_length")
    has = f"has more than {most} entries" if actual is None else f"has {actual} entries"
    return f"{has}; it takes {most} at most"


_WORDS: Final[Mapping[str, _Say]] = {
    "int_parsing": _whole,
    "int_type": _whole,
    "int_from_float": _whole,
    "int_parsing_size": lambda shown, _: f"{shown} is too long for a number",
    "float_parsing": _number,
    "float_type": _number,
    "finite_number": _number,
    "enum": _choice,
    "literal_error": _choice,
    "greater_than_equal": lambda shown, c: f"{shown} is too small; it takes {c['ge']} or more",
    "less_than_equal": lambda shown, c: f"{shown} is too large; it takes {c['le']} at most",
    "string_type": lambda shown, _: f"must be text, not {shown}",
    "string_too_long": lambda _, c: f"is too long; it takes {c['max_length']} characters at most",
    "string_too_short": lambda _, c: (
        f"is too short; it takes {c['min_length']} characters or more"
    ),
    "too_long": _many,
    "bool_type": lambda shown, _: f"must be true or false, not {shown}",
    "dict_type": lambda shown, _: f"must be an object of names and values, not {shown}",
    "model_type": lambda shown, _: f"must be an object of names and values, not {shown}",
    "tuple_type": lambda shown, _: f"must be a list, not {shown}",
    "list_type": lambda shown, _: f"must be a list, not {shown}",
    "missing": lambda _, __: "is missing",
}
