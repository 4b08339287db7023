"""The body of a create request, from multipart, a plain form or JSON, as one typed value."""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from tempfile import SpooledTemporaryFile
from typing import Any, BinaryIO, Final, Self, cast

from pydantic import ValidationError
from starlette.datastructures import UploadFile
from starlette.requests import Request

from api.concurrency.body_memory import Reservation
from api.escaped_form import read_escaped
from api.submit.blanks import is_blank, without_blanks
from api.submit.charsets import check_charset
from api.submit.images import IMAGE_FIELDS, Images, read_images
from api.submit.json_body import MAX_ENTRIES, is_json, read_json
from api.submit.multipart import read_multipart
from api.validation_messages import explain, misplaced_field, unknown_field
from shared.engines.spec import EngineSpec
from shared.errors import InvalidRequest, Unavailable, UnsupportedBody
from shared.excerpt import begin
from shared.jobs.create import CreateJob

MAX_NAME: Final = 100  # Longer than `metadata[…]` with the longest key.
MAX_DEPTH: Final = 5
SPOOL_BYTES: Final = 1024 * 1024
MAX_FIELDS: Final = 120  # 50 keys of metadata, every other field, and some lists.
ALIASES: Final = {"steps": "num_inference_steps"}

_CREATE: Final = CreateJob.model_json_schema()


def _fields(kind: str, of: Mapping[str, Any] = _CREATE, name: str = "{}") -> Iterator[str]:
    """Yield a form's names of the fields that JSON has as this type, as in `webhook[headers]`."""
    for field, schema in of["properties"].items():
        for each in (schema, *schema.get("anyOf", ())):
            if "$ref" in each:
                each = _CREATE["$defs"][each["$ref"].rpartition("/")[2]]
            if each.get("type") == kind:
                yield name.format(field)
            if "properties" in each:
                yield from _fields(kind, each, f"{field}[{{}}]")


NESTED: Final = frozenset({*_fields("object"), *IMAGE_FIELDS})
LISTS: Final = frozenset(_fields("array"))
KNOWN: Final = ("image", *CreateJob.model_fields, *IMAGE_FIELDS[1:], *ALIASES)
_PATH: Final = re.compile(r"([^\[\]]+)((?:\[[^\[\]]*\])*)")


@dataclass(frozen=True)
class Received:
    """A body that has arrived, and of which nothing is trusted yet."""

    pairs: Sequence[tuple[str, str]]
    files: Mapping[str, bytes]
    json: bytes | None
    escaped: bytes | None = None


@dataclass(frozen=True)
class CreateRequest:
    """A well-formed create request; its images are still what the client sent.

    `warnings` say what its reader ignored.
    """

    fields: CreateJob
    images: Images
    warnings: tuple[str, ...] = ()

    def fitted(self, spec: EngineSpec) -> Self:
        """Return the request as the chosen engine can take it."""
        return self


async def receive(request: Request, *, max_bytes: int, reservation: Reservation) -> Received:
    """Receive a create request's body; while it arrives, its large parts are in files.

    Raises:
        UnsupportedBody: its content type is neither a form nor JSON.
        InvalidRequest: the form is malformed.
        Busy: too many bodies are in memory.
        Unavailable: the disk has no space for it.
    """
    try:
        return await _receive(request, max_bytes, reservation)
    except OSError as error:
        raise Unavailable("there is no space for so large a body now; try again") from error


async def _receive(request: Request, max_bytes: int, reservation: Reservation) -> Received:
    kind, _, options = request.headers.get("content-type", "").partition(";")
    kind = kind.strip().lower()
    if is_json(kind):
        return Received((), {}, await spool(request, reservation))
    if kind == "application/x-www-form-urlencoded":
        return Received((), {}, None, await spool(request, reservation))
    if kind != "multipart/form-data":
        alone = "the image is not taken alone; " if kind.startswith("image/") else ""
        raise UnsupportedBody(
            f"{alone}send multipart/form-data with an image part, or application/json",
            param="Content-Type",
        )
    check_charset(options)
    form = await read_multipart(
        request, reservation, max_fields=MAX_FIELDS, max_text_bytes=max_bytes
    )
    return Received(form.pairs, form.files, None)


def read_create(received: Received) -> CreateRequest:
    """Check a body field by field.

    Raises:
        InvalidRequest: `param` names the field; the message says what would be right.
    """
    values = without_blanks(_values(received))
    refuse_nul(values)
    resolve_aliases(values)
    images = read_images(values, received.files)
    return CreateRequest(read_fields(values), images)


def resolve_aliases(values: dict[str, Any]) -> None:
    """Give each value the one name of its field.

    Raises:
        InvalidRequest: a field is sent by both of its names.
    """
    for alias, name in ALIASES.items():
        if values.get(alias) is None:
            values.pop(alias, None)
        elif values.get(name) is not None:
            raise InvalidRequest(f"{alias} is another name of {name}; send one", param=alias)
        else:
            values[name] = values.pop(alias)


def read_fields(values: Mapping[str, Any]) -> CreateJob:
    """Return everything but the images.

    Raises:
        InvalidRequest: as `read_create`.
    """
    present = {name: value for name, value in values.items() if value is not None}
    try:
        return CreateJob.model_validate(present)
    except ValidationError as error:
        raise explain(error.errors(include_url=False), KNOWN) from error


def _values(received: Received) -> dict[str, Any]:
    if received.json is not None:
        return read_object(received.json)
    if received.escaped is not None:
        if received.escaped.lstrip()[:1] in (b"{", b"["):
            raise UnsupportedBody(
                "the body is JSON, and its Content-Type says that it is a form (curl -d says so"
                " by default); send Content-Type: application/json",
                param="Content-Type",
            )
        return nested(read_escaped(received.escaped, max_fields=MAX_FIELDS))
    return nested(received.pairs)


def read_named(
    received: Received, names: Collection[str]
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return the values of a body under these names, and its other names.

    Clients of other protocols send unknown fields; only the names of these are read.

    Raises:
        InvalidRequest: the JSON or the form, or one of these names in two ways.
    """
    others = [name for name in received.files if name.partition("[")[0] not in names]
    if received.json is not None:
        values = read_object(received.json)
        others += [name for name in values if name not in names]
        found = {name: value for name, value in values.items() if name in names}
    else:
        pairs = received.pairs
        if received.escaped is not None:
            pairs = read_escaped(received.escaped, max_fields=MAX_FIELDS)
        others += [name for name, _ in pairs if name.partition("[")[0] not in names]
        found = nested([pair for pair in pairs if pair[0].partition("[")[0] in names])
    refuse_nul(found)
    return found, tuple(dict.fromkeys(others))


async def spool(request: Request, reservation: Reservation) -> bytes:
    """Return a whole body; unlike with `Request.body`, the request then does not hold it too."""
    with SpooledTemporaryFile(SPOOL_BYTES) as file:
        arriving = UploadFile(cast(BinaryIO, file), size=0)
        async for chunk in request.stream():
            await arriving.write(chunk)
        await arriving.seek(0)
        await reservation.grow(arriving.size or 0)
        return await arriving.read()


def read_object(body: bytes) -> dict[str, Any]:
    values = read_json(body, "the body")
    if not isinstance(values, dict):
        raise InvalidRequest("the body must be a JSON object of names and values")
    return values


def nested(pairs: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """Return form fields as the JSON that they stand for: `metadata[k]`, `outputs[]`, JSON texts.

    A list may be sent as JSON, as a comma list, or in parts, also numbered ones (`outputs[0]`). A
    field left empty counts as not sent, because browsers send every input of a form.
    """
    values: dict[str, Any] = {}
    for name, text in pairs:
        match = _PATH.fullmatch(name) if len(name) <= MAX_NAME else None
        keys = re.findall(r"\[([^\[\]]*)\]", match[2]) if match else []
        if match is None or len(keys) > MAX_DEPTH:
            raise unknown_field(name, KNOWN)
        top = match[1]
        if is_blank(text, top) and (not keys or top in IMAGE_FIELDS or name in LISTS):
            continue
        _place(values, [top, *keys], _meant(name, text))
    for path in (*LISTS, "keyframes"):
        _number(values, path)
    return values


def _number(values: dict[str, Any], path: str) -> None:
    """Make a list of numbered parts, as PHP and other programs write the parts of a list."""
    *parents, last = path.replace("]", "").split("[")
    at: Any = values
    for key in parents:
        at = at.get(key) if isinstance(at, dict) else None
    parts = at.get(last) if isinstance(at, dict) else None
    if isinstance(parts, dict) and [*parts] == [str(number) for number in range(len(parts))]:
        at[last] = [*parts.values()]


def _meant(name: str, text: str) -> Any:
    if name in NESTED | LISTS and text.lstrip().startswith(("{", "[")):
        return read_json(text.encode(errors="replace"), name, param=name)
    if name not in LISTS:
        return text
    entries = text.count(",") + 1
    if entries > MAX_ENTRIES:
        raise InvalidRequest(
            f"{name} has {entries} entries; a list takes {MAX_ENTRIES} at most", param=name
        )
    return [part.strip() for part in text.split(",")]


def _place(values: dict[str, Any], path: list[str], value: Any) -> None:
    """Put a value in the place of its bracketed name; `[]` and repeated outputs append."""
    *parents, last = path
    at: Any = values
    for depth, key in enumerate(parents):
        if key == "" and depth:
            raise InvalidRequest(
                f"{begin(path[0])} continues after an empty bracket; an empty bracket ends a"
                " name, as in outputs[]",
                param=begin(path[0]),
            )
        following = path[depth + 1]
        at = at.setdefault(key, [] if following == "" else {})
        if not isinstance(at, list if following == "" else dict):
            raise InvalidRequest(
                f"{begin(path[0])} is sent in two ways; use one", param=begin(path[0])
            )
    if isinstance(at, list):
        at.append(value)
    elif isinstance(at.get(last), list) and isinstance(value, list):
        at[last] += value
    elif last in at:
        name = begin(path[0])
        raise InvalidRequest(f"{name} is sent twice; send it once", param=name)
    else:
        at[last] = value


def refuse_query_fields(request: Request) -> None:
    """Refuse fields of a create in the URL's query, where nobody would look for them."""
    for name in request.query_params:
        if name.partition("[")[0] in KNOWN:
            raise misplaced_field(name)


def refuse_nul(value: object, name: str = "the body") -> None:
    """Refuse the one character that Postgres stores in no text."""
    if isinstance(value, str):
        if "\0" in value:
            name = name[:MAX_NAME]
            raise InvalidRequest(f"{name} holds a NUL character; remove it", param=name)
    elif isinstance(value, dict):
        for key, inner in value.items():
            refuse_nul(key, name)
            refuse_nul(inner, key)
    elif isinstance(value, list):
        for inner in value:
            refuse_nul(inner, name)
