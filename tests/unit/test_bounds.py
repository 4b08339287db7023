"""Every list, object and text that a client may send says how long it may be."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from api.submit.images import PARTS
from tests.support.document import document

IMAGES: Final = tuple(
    f"{image}{data}" for image in (*PARTS, "keyframes[].image") for data in ("", ".data")
)
"""A data URI may be as long as the body of its route."""

BOUNDED: Final = ("enum", "const", "format", "contentMediaType")
"""Texts with few possible values, and dates and URLs: readers stop at the first wrong letter."""


def sent() -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """Yield each operation with the name and the schema of a value in its query or its body."""
    for path, item in document()["paths"].items():
        for method, operation in item.items():
            label = f"{method.upper()} {path}"
            for parameter in operation.get("parameters", ()):
                if parameter["in"] == "query":
                    yield label, parameter["name"], parameter["schema"]
            for kind, content in operation.get("requestBody", {}).get("content", {}).items():
                yield f"{label} ({kind})", "", content["schema"]


def unbounded(schema: Mapping[str, Any], name: str) -> Iterator[str]:
    if "$ref" in schema:
        schema = document()["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    for each in (*schema.get("anyOf", ()), *schema.get("oneOf", ()), *schema.get("allOf", ())):
        yield from unbounded(each, name)
    kind = schema.get("type")
    if kind == "string" and "maxLength" not in schema and not any(b in schema for b in BOUNDED):
        yield name
    if kind == "array":
        yield from () if "maxItems" in schema else (name,)
        yield from unbounded(schema.get("items", {}), f"{name}[]")
    for field, inner in schema.get("properties", {}).items():
        yield from unbounded(inner, f"{name}.{field}".lstrip("."))
    values = schema.get("additionalProperties", False)
    if values:
        yield from () if "maxProperties" in schema else (name,)
        yield from unbounded(values if isinstance(values, Mapping) else {}, f"{name}.*")


def test_what_is_sent_has_a_longest() -> None:
    everything = list(sent())
    found = [
        (label, each)
        for label, name, schema in everything
        for each in unbounded(schema, name)
        if each not in IMAGES
    ]
    assert len(everything) > 50
    assert found == []


def test_a_value_without_a_bound_would_be_seen() -> None:
    free: dict[str, Any] = {"type": "string"}
    for schema in (
        free,
        {"type": "array", "maxItems": 3, "items": free},
        {"type": "array", "items": {"type": "integer"}},
        {"type": "object", "additionalProperties": {"type": "integer"}},
        {"anyOf": [free, {"type": "null"}]},
    ):
        assert list(unbounded(schema, "a"))
