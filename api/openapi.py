"""The parts of openapi.json that FastAPI cannot read off the handlers."""

from typing import Any, Final

from fastapi import FastAPI

from api.problems import MEDIA_TYPE, Problem
from shared.wire import CreateJob

_REFERENCE: Final = "#/components/schemas/{model}"
_CREATE: Final = CreateJob.model_json_schema(ref_template=_REFERENCE)

PROBLEMS: Final[dict[int | str, dict[str, Any]]] = {
    code: {
        "description": description,
        "content": {MEDIA_TYPE: {"schema": {"$ref": _REFERENCE.format(model="Problem")}}},
    }
    for code, description in (
        ("4XX", "The request was refused; `code` and `detail` say why."),
        ("5XX", "Try again: 503 carries Retry-After."),
    )
}

FILE: Final[dict[int | str, dict[str, Any]]] = {
    200: {"description": "The whole file.", "content": {"application/octet-stream": {}}},
    206: {"description": "The part that Range names."},
    304: {"description": "The client has it already."},
    307: {"description": "The storage's own link, valid for 15 minutes."},
}

METADATA_QUERY: Final[dict[str, Any]] = {
    "parameters": [
        {
            "name": "metadata",
            "in": "query",
            "style": "deepObject",
            "explode": True,
            "schema": {"type": "object", "additionalProperties": {"type": "string"}},
        }
    ]
}


def _body(image: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a create body whose picture comes as `image`."""
    steps = {"type": "integer", "description": "Another name of num_inference_steps."}
    properties = {"image": image, **_CREATE["properties"], "steps": steps}
    return {"type": "object", "required": ["image"], "properties": properties}


CREATE_BODY: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": _body({"type": "string", "contentMediaType": "image/*"})
            },
            "application/json": {
                "schema": _body(
                    {
                        "description": "A data URI, alone or as `data`.",
                        "oneOf": [
                            {"type": "string"},
                            {
                                "type": "object",
                                "required": ["data"],
                                "properties": {"data": {"type": "string"}},
                            },
                        ],
                    }
                )
            },
        },
    }
}


def describe(app: FastAPI) -> None:
    """Have the app's openapi.json hold the schemas that are referred to by name."""
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        is_first = app.openapi_schema is None
        document = generate()
        if is_first:
            schemas = document.setdefault("components", {}).setdefault("schemas", {})
            problem = Problem.model_json_schema(ref_template=_REFERENCE)
            for definitions in (_CREATE.get("$defs", {}), problem.pop("$defs", {})):
                for name, schema in definitions.items():
                    schemas.setdefault(name, schema)
            schemas.setdefault("Problem", problem)
        return document

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's own way to extend it.
