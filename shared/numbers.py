"""Numbers and booleans as JSON has them: `true` is no number, and 1 is neither true nor false."""

from typing import Annotated, Any, Final

from pydantic import AfterValidator, BeforeValidator, Field, Strict
from pydantic_core import PydanticKnownError

MOST: Final = 2**63 - 1
"""A number of thousands of digits can be neither stored nor written into an error."""


def _no_truth(value: Any) -> Any:
    if isinstance(value, bool):
        raise PydanticKnownError("int_type")
    return value


def _no_truth_either(value: Any) -> Any:
    if isinstance(value, bool):
        raise PydanticKnownError("float_type")
    return value


def _storable(value: int) -> int:
    if abs(value) > MOST:
        raise PydanticKnownError("int_parsing_size")
    return value


Whole = Annotated[int, BeforeValidator(_no_truth), AfterValidator(_storable)]
"""Digits in a text count as the number, because forms can send only texts."""

Real = Annotated[float, BeforeValidator(_no_truth_either), Field(allow_inf_nan=False)]

Truth = Annotated[bool, Strict()]

_JSON_WORDS: Final = {
    "ge": "minimum",
    "le": "maximum",
    "gt": "exclusiveMinimum",
    "lt": "exclusiveMaximum",
    "multiple_of": "multipleOf",
}


def use_json_words(schema: Any) -> None:
    """Name a schema's limits as JSON Schema does, because after a validator pydantic does not.

    Args:
        schema: changed in place; the keys of `properties` are field names and not JSON Schema
            words.
    """
    if isinstance(schema, list):
        for each in schema:
            use_json_words(each)
    if not isinstance(schema, dict):
        return
    for word in [word for word in _JSON_WORDS if isinstance(schema.get(word), int | float)]:
        schema[_JSON_WORDS[word]] = schema.pop(word)
    for name, each in schema.items():
        if name == "properties" and isinstance(each, dict):
            use_json_words(list(each.values()))
        else:
            use_json_words(each)
