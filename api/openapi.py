"""The parts of openapi.json that FastAPI cannot read off the handlers."""

from http import HTTPStatus
from typing import Any, Final, get_args

from fastapi import FastAPI
from pydantic import TypeAdapter

from api.auth.session_cookie import NAME
from api.middleware.authentication import is_public
from api.openapi_examples import PROBLEM, add_examples, add_links
from api.problems import MEDIA_TYPE, Problem
from api.submit.image_source import MAX_URL
from shared.engines.given_images import MAX_KEYFRAMES, SINGLE
from shared.errors import AppError, Drained, LeaseLost, RenderFailed
from shared.jobs.batch import MAX_ITEMS
from shared.jobs.create import MAX_EVENT_TYPES, CreateJob, Metadata
from shared.numbers import use_json_words
from shared.webhooks.events import BATCH_FINISHED, EventType
from shared.webhooks.headers import MOST_HEADERS, MOST_VALUE_CHARACTERS

CONTENT: Final = ("/v1/jobs/{job_id}/content", "/v1/batches/{batch_id}/content")
"""The paths that a link opens."""

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

_FILES: Final[dict[str, Any]] = {
    kind: {"schema": {"type": "string", "contentMediaType": kind}}
    for kind in ("video/mp4", "image/gif", "image/jpeg", "image/png", "image/webp")
}

FILE: Final[dict[int | str, dict[str, Any]]] = {
    200: {"description": "The whole file.", "content": _FILES},
    206: {"description": "The part that Range names.", "content": _FILES},
    304: {"description": "The client has this version already."},
    307: {"description": "The storage's own link, valid for 15 minutes."},
}

METADATA_QUERY: Final[dict[str, Any]] = {
    "parameters": [
        {
            "name": "metadata",
            "in": "query",
            "style": "deepObject",
            "explode": True,
            "schema": TypeAdapter(Metadata).json_schema(),
        }
    ]
}


_FILE: Final = {"type": "string", "contentMediaType": "image/*"}
_URL: Final = {"type": "string", "format": "uri", "maxLength": MAX_URL}


def _object(name: str, value: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "required": [name], "properties": {name: value}}


def file_form(part: str) -> dict[str, Any]:
    """Return what says of a route that its body is a form with one image, in this part."""
    content = {"multipart/form-data": {"schema": _object(part, _FILE)}}
    return {"requestBody": {"required": True, "content": content}}


_DATA_URI: Final = {"type": "string", "format": "data-uri"}
_DATA: Final = (_DATA_URI, _object("data", _DATA_URI))
_ID: Final = {"type": "string", "maxLength": 100}
_UPLOAD: Final = _object("upload_id", _ID)
_FRAME: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["job_id", "frame"],
    "properties": {
        "job_id": _ID,
        "frame": {"type": "integer", "description": "0 is the clip's first, -1 its last."},
    },
}
_IMAGE: Final[dict[str, Any]] = {
    "description": (
        "A URL to fetch, a data URI, alone or as `data`, an upload, or a frame of one of your"
        " clips."
    ),
    "oneOf": [_object("url", _URL), *_DATA, _UPLOAD, _FRAME],
}
_KEYFRAMES: Final[dict[str, Any]] = {
    "type": "array",
    "maxItems": MAX_KEYFRAMES,
    "items": {
        "type": "object",
        "required": ["frame", "image"],
        "properties": {"frame": {"type": "integer"}, "image": _IMAGE},
    },
    "description": "The images for frames of these numbers, for models that take them.",
}
MORE_IMAGES: Final[dict[str, dict[str, Any]]] = {
    **dict.fromkeys(SINGLE, _IMAGE),
    "keyframes": _KEYFRAMES,
}
"""The schemas of inputs that a job may have beside its image, for models that take them."""


def _fields(*needed: str, **images: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a create body whose image has one of the names `needed`."""
    steps = {"type": "integer", "description": "Another name of num_inference_steps."}
    required = [{"required": [name]} for name in needed]
    return {
        "type": "object",
        **(required[0] if len(required) == 1 else {"anyOf": required}),
        "properties": {**images, **_CREATE["properties"], "steps": steps},
    }


def _body(form: dict[str, Any], json: dict[str, Any]) -> dict[str, Any]:
    content = {"multipart/form-data": {"schema": form}, "application/json": {"schema": json}}
    return {"requestBody": {"required": True, "content": content}}


_IN_FORMS: Final[dict[str, dict[str, Any]]] = {
    "image[url]": _URL,
    "image[upload_id]": _ID,
    "image[part]": {**_ID, "description": "The name of a file part of this form."},
}
CREATE_BODY: Final = _body(
    _fields(
        "image",
        *_IN_FORMS,
        "image[job_id]",
        image=_FILE,
        **dict.fromkeys(SINGLE, _FILE),
        keyframes={"type": "string", "contentMediaType": "application/json"},
        **_IN_FORMS,
        **{f"image[{name}]": each for name, each in _FRAME["properties"].items()},
    ),
    _fields("image", image=_IMAGE, **MORE_IMAGES),
)
GENERATE_BODY: Final = _body(
    _fields("image", image=_FILE),
    _fields("image", image={"description": "A data URI, alone or as `data`.", "oneOf": [*_DATA]}),
)
_ITEM: Final = {
    "type": "object",
    "required": ["image"],
    "properties": {
        "image": {
            "description": "As of a job, or a file part of the same form.",
            "oneOf": [*_IMAGE["oneOf"], _object("part", _ID)],
        },
        **{name: value for name, value in _CREATE["properties"].items() if name != "webhook"},
    },
}
_BATCH_WEBHOOK: Final = {
    "type": "object",
    "required": ["url"],
    "additionalProperties": False,
    "properties": {
        "url": _URL,
        "event_types": {
            "type": "array",
            "items": {"enum": [BATCH_FINISHED, *get_args(EventType)]},
            "maxItems": MAX_EVENT_TYPES,
            "default": [BATCH_FINISHED],
        },
        "headers": {
            "type": "object",
            "additionalProperties": {"type": "string", "maxLength": MOST_VALUE_CHARACTERS},
            "maxProperties": MOST_HEADERS,
            "description": "They are sent with each try, and are shown nowhere.",
        },
    },
}


def _batch(**more: dict[str, Any]) -> dict[str, Any]:
    items = {"type": "array", "minItems": 1, "maxItems": MAX_ITEMS, "items": _ITEM}
    shared = {**_CREATE["properties"], "webhook": _BATCH_WEBHOOK, "items": items, **more}
    return {"type": "object", "properties": shared}


BATCH_BODY: Final = _body(
    _batch(image={"type": "array", "maxItems": MAX_ITEMS, "items": _FILE}),
    {**_batch(), "required": ["items"]},
)
ZIP: Final[dict[int | str, dict[str, Any]]] = {
    200: {"description": "The clips, and results.csv.", "content": {"application/zip": {}}},
}


def describe(app: FastAPI) -> None:
    """Add to the app's openapi.json the schemas that are referred to by name."""
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
            _list_codes(schemas["Problem"])
            add_examples(document)
            add_links(document)
            _name_the_lock(document)
            use_json_words(document)
        return document

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's own way to extend it.


def codes() -> dict[int, list[str]]:
    """Return the codes of errors that an answer can have, by status."""
    found: dict[int, set[str]] = {
        HTTPStatus.NOT_FOUND: {"not_found"},
        HTTPStatus.METHOD_NOT_ALLOWED: {"method_not_allowed"},
    }
    waiting: list[type[AppError]] = [AppError]
    while waiting:
        error = waiting.pop()
        if issubclass(error, RenderFailed | LeaseLost | Drained):
            continue  # The end of a job or of a worker; no answer is refused with it.
        waiting += error.__subclasses__()
        if "code" in vars(error):
            found.setdefault(error.status, set()).add(error.code)
    return {status: sorted(found[status]) for status in sorted(found)}


def _list_codes(problem: dict[str, Any]) -> None:
    """List all error codes in the schema of errors."""
    by_status = codes()
    told = "; ".join(f"{status}: {', '.join(names)}" for status, names in by_status.items())
    code = problem["properties"]["code"]
    code["description"] = f"Stable: {told}. A job that failed brings its own."
    code["examples"] = sorted({name for names in by_status.values() for name in names})
    problem["examples"] = [PROBLEM]


def _name_the_lock(document: dict[str, Any]) -> None:
    """Say that every path needs a key except the public ones."""
    document["components"]["securitySchemes"] = {
        "key": {
            "type": "http",
            "scheme": "bearer",
            "bearerFormat": "sr_…",
            "description": "An API key; not needed on this machine itself while there is none.",
        },
        "session": {
            "type": "apiKey",
            "in": "cookie",
            "name": NAME,
            "description": "A session of POST /v1/session; over https `__Host-` before its name.",
        },
        "link": {
            "type": "apiKey",
            "in": "query",
            "name": "link",
            "description": "The signature of a file's address; it opens only that file.",
        },
    }
    document["security"] = [{"key": []}, {"session": []}]
    for path in CONTENT:
        document["paths"][path]["get"]["security"] = [*document["security"], {"link": []}]
    for path, item in document["paths"].items():
        if is_public(path):
            for operation in item.values():
                operation["security"] = []
