"""From JSON to frozen dataclasses.

Fields of an answer that a class does not have are ignored, so that an older client understands a
newer service; a class with a field `raw` keeps the whole answer there.
"""

import dataclasses
import json
import types
from collections.abc import Mapping
from datetime import datetime
from functools import cache
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from stillreel.errors import UnexpectedAnswer
from stillreel.steps import Answer

T = TypeVar("T")

hints = cache(get_type_hints)


def body(answer: Answer) -> dict[str, Any]:
    """Return an answer's JSON object.

    Raises:
        UnexpectedAnswer: there is none.
    """
    try:
        found = json.loads(answer.body)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise UnexpectedAnswer(
            f"the answer ({answer.status}) is not in JSON; is it Stillreel that answers there?"
            " Check STILLREEL_URL"
        )
    return found


def decode(kind: type[T], found: Any) -> T:
    """Return an object of a dataclass from a JSON object.

    Raises:
        UnexpectedAnswer: a field is missing or of another type.
    """
    assert dataclasses.is_dataclass(kind)
    if not isinstance(found, Mapping):
        raise UnexpectedAnswer(f"a {kind.__name__.lower()} was expected, and {found!r:.80} came")
    values: dict[str, Any] = {}
    for each in dataclasses.fields(kind):
        if each.name == "raw":
            values["raw"] = found
        elif each.name in found:
            values[each.name] = _value(hints(kind)[each.name], found[each.name], each.name)
        elif each.default is dataclasses.MISSING and each.default_factory is dataclasses.MISSING:
            raise UnexpectedAnswer(
                f"the answer has no {each.name}; is it Stillreel that answers there?"
            )
    made: T = kind(**values)
    return made


def _value(hint: Any, found: Any, name: str) -> Any:
    origin, parts = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        if found is None:
            return None
        (hint,) = (part for part in parts if part is not type(None))
        return _value(hint, found, name)
    if dataclasses.is_dataclass(hint):
        assert isinstance(hint, type)
        return decode(hint, found)
    try:
        if hint is datetime:
            return datetime.fromisoformat(found)
        if origin is tuple:
            return tuple(_value(parts[0], each, name) for each in found)
    except (TypeError, ValueError) as error:
        raise UnexpectedAnswer(f"{name} of the answer is {found!r:.80}") from error
    wanted = {float: (int, float), Mapping: Mapping}.get(origin or hint, hint)
    if isinstance(wanted, type | tuple) and not isinstance(found, wanted):
        raise UnexpectedAnswer(f"{name} of the answer is {found!r:.80}")
    return found
