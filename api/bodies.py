"""What a create request carries, from multipart, a plain form or JSON, as one typed value."""

import base64
import binascii
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pydantic import ValidationError
from pydantic_core import from_json
from starlette.datastructures import FormData
from starlette.exceptions import HTTPException
from starlette.requests import Request

from api.wording import explain, unknown_field
from shared.errors import InvalidImage, InvalidRequest, UnsupportedBody
from shared.wire import CreateJob

MAX_URL: Final = 2000
MAX_FIELDS: Final = 120  # 50 keys of metadata, every other field, and some lists.
ALIASES: Final = {"steps": "num_inference_steps"}
NESTED: Final = frozenset({"metadata", "webhook", "outputs", "image"})
KNOWN: Final = ("image", *CreateJob.model_fields, *ALIASES)

_PATH: Final = re.compile(r"([^\[\]]+)((?:\[[^\[\]]*\])*)")
_DATA_URI: Final = re.compile(r"data:[\w.+-]*/?[\w.+-]*(?:;[\w=.+-]+)*;base64,", re.IGNORECASE)
_HOW: Final = (
    "a file part of a multipart form, or in JSON"
    ' {"url": "https://…"} or {"data": "data:image/png;base64,…"}'
)


@dataclass(frozen=True)
class Received:
    """A body that has arrived and of which nothing is believed yet."""

    pairs: Sequence[tuple[str, str]]
    file: bytes | None
    json: bytes | None


@dataclass(frozen=True)
class ImageUrl:
    """Where the client says that its picture lies; nothing is known of the place."""

    url: str


@dataclass(frozen=True)
class Create:
    """A well-formed create request; `image` is still whatever the client sent."""

    fields: CreateJob
    image: bytes | ImageUrl


async def receive(request: Request, *, max_bytes: int) -> Received:
    """Take in a create request's body.

    Raises:
        UnsupportedBody: its content type is neither a form nor JSON.
        InvalidRequest: the form is malformed.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "application/json":
        return Received((), None, await request.body())
    if kind not in {"multipart/form-data", "application/x-www-form-urlencoded"}:
        raise UnsupportedBody(
            "send multipart/form-data with an image part, or application/json",
            param="Content-Type",
        )
    try:
        async with request.form(
            max_files=1, max_fields=MAX_FIELDS, max_part_size=max_bytes
        ) as form:
            return await _from_form(form)
    except HTTPException as error:
        if error.status_code != 400:
            raise
        raise InvalidRequest(f"the form cannot be read: {error.detail}") from error


def read_create(received: Received) -> Create:
    """Check a body field by field.

    Raises:
        InvalidRequest: `param` names the field; the message says what would be right.
    """
    values = _nested(received.pairs) if received.json is None else _object(received.json)
    refuse_nul(values)
    for alias, name in ALIASES.items():
        if values.get(alias) is None:
            values.pop(alias, None)
        elif values.get(name) is not None:
            raise InvalidRequest(f"{alias} is another name of {name}; send one", param=alias)
        else:
            values[name] = values.pop(alias)
    sent = values.pop("image", None)
    if received.file is not None and sent is not None:
        raise InvalidRequest("image is sent twice; send it once", param="image")
    image = received.file if received.file is not None else _image(sent)
    present = {name: value for name, value in values.items() if value is not None}
    try:
        return Create(CreateJob.model_validate(present), image)
    except ValidationError as error:
        raise explain(error.errors(include_url=False), KNOWN) from error


async def _from_form(form: FormData) -> Received:
    pairs: list[tuple[str, str]] = []
    file = None
    for name, value in form.multi_items():
        if isinstance(value, str):
            pairs.append((name, value))
        elif name != "image":
            raise InvalidRequest(f"the file part is named {name!r}; name it image", param="image")
        else:
            file = await value.read()
    return Received(pairs, file, None)


def _object(body: bytes) -> dict[str, Any]:
    try:
        values = from_json(body, allow_inf_nan=False)
    except ValueError as error:
        raise InvalidRequest(f"the body is not JSON: {error}") from error
    if not isinstance(values, dict):
        raise InvalidRequest("the body must be a JSON object of names and values")
    return values


def _nested(pairs: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """Return form fields as the JSON they stand for: `metadata[k]`, `outputs[]`, JSON texts.

    A field left empty is a field not sent: browsers send every input of a form.
    """
    values: dict[str, Any] = {}
    for name, text in pairs:
        match = _PATH.fullmatch(name)
        if match is None:
            raise unknown_field(name, KNOWN)
        top = match[1]
        keys = re.findall(r"\[([^\[\]]*)\]", match[2])
        if not text and (not keys or top == "image"):
            continue
        _place(values, [top, *keys], _json_text(top, text) if not keys else text)
    return values


def _json_text(name: str, text: str) -> Any:
    if name not in NESTED or not text.lstrip().startswith(("{", "[")):
        return [text] if name == "outputs" else text
    try:
        return from_json(text)
    except ValueError as error:
        raise InvalidRequest(f"{name} is not JSON: {error}", param=name) from error


def _place(values: dict[str, Any], path: list[str], value: Any) -> None:
    """Put a value where its bracketed name says; `[]` and repeated outputs append."""
    *parents, last = path
    at: Any = values
    for depth, key in enumerate(parents):
        following = path[depth + 1]
        at = at.setdefault(key, [] if following == "" else {})
        if not isinstance(at, list if following == "" else dict):
            raise InvalidRequest(f"{path[0]} is sent in two forms", param=path[0])
    if isinstance(at, list):
        at.append(value)
    elif isinstance(at.get(last), list) and isinstance(value, list):
        at[last] += value
    elif last in at:
        raise InvalidRequest(f"{path[0]} is sent twice; send it once", param=path[0])
    else:
        at[last] = value


def _image(sent: object) -> bytes | ImageUrl:
    """Return the picture inside a JSON `image`, or where it lies."""
    if isinstance(sent, Mapping):
        if set(sent) == {"url"}:
            return _image_url(sent["url"])
        if set(sent) != {"data"}:
            raise InvalidRequest(f"image takes {_HOW}", param="image")
        sent = sent["data"]
    if sent is None:
        raise InvalidRequest(f"image is missing; it takes {_HOW}", param="image")
    match = _DATA_URI.match(sent) if isinstance(sent, str) else None
    if not isinstance(sent, str) or match is None:
        raise InvalidRequest(f"image takes {_HOW}", param="image")
    try:
        return base64.b64decode("".join(sent[match.end() :].split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidImage("the data URI of image is not valid base64", param="image") from error


def _image_url(url: object) -> ImageUrl:
    if not isinstance(url, str) or not 0 < len(url) <= MAX_URL:
        raise InvalidRequest(
            f"image.url takes a URL of at most {MAX_URL} characters,"
            " like https://example.org/cat.jpg",
            param="image.url",
        )
    return ImageUrl(url)


def refuse_nul(value: object, name: str = "the body") -> None:
    """Refuse the one character that Postgres keeps in no text."""
    if isinstance(value, str):
        if "\0" in value:
            raise InvalidRequest(f"{name} holds a NUL character; remove it", param=name)
    elif isinstance(value, dict):
        for key, inner in value.items():
            refuse_nul(key, name)
            refuse_nul(inner, key)
    elif isinstance(value, list):
        for inner in value:
            refuse_nul(inner, name)
