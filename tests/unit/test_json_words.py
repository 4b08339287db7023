"""Limits are described in the words of JSON Schema everywhere."""

from collections.abc import Iterator
from typing import Any

from api.responses.model_schema import parameters_schema
from bench.noop import NoopEngine
from shared.numbers import use_json_words
from tests.support.document import document

OTHERS = {"ge", "le", "gt", "lt", "multiple_of"}


def limits(schema: Any) -> Iterator[tuple[str, Any]]:
    """Yield each word for a limit, from any vocabulary, with its number."""
    if isinstance(schema, list):
        for each in schema:
            yield from limits(each)
    elif isinstance(schema, dict):
        for name, each in schema.items():
            if isinstance(each, int | float) and not isinstance(each, bool):
                yield name, each
            else:
                yield from limits(each)


def test_openapi_says_minimum_and_maximum() -> None:
    said = {name for name, _ in limits(document())}
    assert said & OTHERS == set()
    assert {"minimum", "maximum", "exclusiveMinimum"} <= said


def test_a_model_s_parameters_say_minimum_and_maximum() -> None:
    schema = parameters_schema(NoopEngine.spec)
    assert {name for name, _ in limits(schema)} & OTHERS == set()
    seed = schema["properties"]["seed"]["anyOf"][0]
    assert (seed["minimum"], seed["maximum"]) == (-1, 2**32 - 1)


def test_a_field_that_is_called_like_a_word_keeps_its_name() -> None:
    schema = {"properties": {"le": {"ge": 1, "lt": 3, "type": "integer"}}}
    use_json_words(schema)
    assert schema == {
        "properties": {"le": {"minimum": 1, "exclusiveMaximum": 3, "type": "integer"}}
    }
