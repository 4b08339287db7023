"""Another protocol's create request, translated into the request that our own API takes."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Final, Self

from pydantic import ValidationError
from starlette.requests import Request

from api.auth.caller import Caller
from api.ports import Ports
from api.submit.blanks import without_blanks
from api.submit.body import ALIASES, CreateRequest, Received, read_named
from api.submit.image_source import Files
from api.submit.images import IMAGE_FIELDS, Images, read_images
from api.submit.json_body import read_json
from api.submit.queue_job import Submitted
from api.submit.submit import submit
from api.validation_messages import explain
from shared.engines.given_images import SINGLE
from shared.engines.spec import MIN_SIDE, EngineSpec
from shared.errors import InvalidRequest
from shared.excerpt import begin, excerpt
from shared.jobs.create import CreateJob

OURS: Final = frozenset({*CreateJob.model_fields, *ALIASES, *IMAGE_FIELDS[1:]})
IMAGE_PARAMS: Final = (
    "image",
    *(f"image.{each}" for each in ("url", "data", "upload_id", "part", "job_id", "frame")),
)
MOST_NAMED: Final = 20
"""Unknown names that a warning lists; the rest is counted."""

_SIZE: Final = re.compile(r"(\d{1,5})\s*[xX*×]\s*(\d{1,5})")


@dataclass(frozen=True, kw_only=True)
class Names:
    """The names that a protocol uses.

    Attributes:
        images: the fields that may hold the image; errors name the first.
        ours: its names for our fields.
        size: its names for a text like 1280x720.
        more: fields that hold an object of more fields.
    """

    images: tuple[str, ...]
    ours: Mapping[str, str] = field(default_factory=dict)
    size: tuple[str, ...] = ("size",)
    more: tuple[str, ...] = ()

    @property
    def all(self) -> frozenset[str]:
        named = {*self.images, *self.ours, *self.size, *self.more}
        return OURS | named


@dataclass(frozen=True)
class ForeignRequest(CreateRequest):
    """A create request of another protocol, before an engine was chosen for it."""

    size: tuple[int, int] | None = None
    params: Mapping[str, str] = field(default_factory=dict)

    def fitted(self, spec: EngineSpec) -> Self:
        """Return the request with the size of this engine that is nearest to it."""
        if self.size is None:
            return self
        width, height = (_side(side, spec) for side in self.size)
        warnings = self.warnings
        if (width, height) != self.size:
            warnings += (
                f"size {self.size[0]}x{self.size[1]} became {width}x{height}: sides of"
                f" {spec.name} are multiples of {spec.multiple}",
            )
        fields = self.fields.model_copy(update={"width": width, "height": height})
        return replace(self, fields=fields, warnings=warnings)


async def submit_foreign(
    request: Request,
    ports: Ports,
    caller: Caller,
    read: Callable[[Received], ForeignRequest],
    *,
    key: str | None,
    source: str,
) -> Submitted:
    """Turn a body of another protocol into a queued job.

    Raises:
        What `submit` raises; `param` is the name that the client used.
    """
    words: dict[str, str] = {}

    def note(received: Received) -> ForeignRequest:
        found = read(received)
        words.update(found.params)
        return found

    with in_words_of(words):
        return await submit(request, ports, caller, key=key, source=source, read=note)


def read_foreign(received: Received, names: Names, **fixed: Any) -> ForeignRequest:
    """Check a body of another protocol.

    Raises:
        InvalidRequest: a value is wrong; `param` is the name that the client used.
    """
    values, others = read_named(received, names.all)
    files = {_plain(name, names): body for name, body in received.files.items()}
    return foreign_request(values, others, names, files=files, **fixed)


def foreign_request(
    values: Mapping[str, Any],
    others: Iterable[str],
    names: Names,
    *,
    files: Files = MappingProxyType({}),
    words: Mapping[str, str] = MappingProxyType({}),
    **fixed: Any,
) -> ForeignRequest:
    """Return the request that these values make.

    Args:
        others: unknown names; a warning lists them.
        files: the parts of a form; the image may be one of them.
        words: the client's names of what is in `fixed`.
        fixed: our fields that the protocol gives in another place.
    """
    values, others = _opened(values, [*others], names)
    warnings = [_ignored(others)] if others else []
    named, *unused = _names_of_images(values, names, files)
    warnings += [f"{name} was ignored: the image is {named}" for name in unused]
    images = _images(values, named, files)
    ours, params = _ours(values, names, named)
    params |= words
    size = _size(values, names)
    if size is not None and ("width" in ours or "height" in ours):
        size = None
        warnings.append("size was ignored: width and height decide the size")
    if ours.get("seconds") is not None and ours.get("num_frames") is not None:
        warnings.append(f"{params.get('seconds', 'seconds')} was ignored: num_frames decides")
        del ours["seconds"]
    with in_words_of(params):
        try:
            fields = CreateJob.model_validate({**ours, **fixed})
        except ValidationError as error:
            raise explain(error.errors(include_url=False), sorted(names.all)) from error
    return ForeignRequest(fields, images, tuple(warnings), size, params)


@contextmanager
def in_words_of(params: Mapping[str, str]) -> Iterator[None]:
    """Make errors inside the block name the field as its client does."""
    try:
        yield
    except InvalidRequest as error:
        error.param = params.get(error.param or "", error.param)
        raise


def _opened(
    values: Mapping[str, Any], others: list[str], names: Names
) -> tuple[dict[str, Any], list[str]]:
    """Return the values with those of nested objects; an outer value wins."""
    found = without_blanks(values)
    for name in names.more:
        inner = _parsed(found.pop(name, None), name)
        if inner is None:
            continue
        if not isinstance(inner, Mapping):
            raise InvalidRequest(f"{name} takes an object of names and values", param=name)
        for key, value in without_blanks(inner).items():
            if key not in names.all or key in names.more:
                others.append(f"{name}.{key}")
            else:
                found.setdefault(key, value)
    return found, others


def _ours(
    values: Mapping[str, Any], names: Names, image: str
) -> tuple[dict[str, Any], dict[str, str]]:
    """Return our fields, and the client's own name of each that differs."""
    found: dict[str, Any] = {}
    params = dict.fromkeys(IMAGE_PARAMS, image)
    size = _said(values, names.size)
    if size is not None and not values.keys() & {"width", "height"}:
        params |= dict.fromkeys(("width", "height"), size)
    for name, value in values.items():
        ours = names.ours.get(name) or ALIASES.get(name, name)
        if ours not in CreateJob.model_fields:
            continue
        if found.get(ours, value) != value:
            raise InvalidRequest(
                f"{name} and {params.get(ours, ours)} are two names of one field; send one",
                param=name,
            )
        found[ours] = value
        if ours != name:
            params[ours] = name
    return found, params


def _said(values: Mapping[str, Any], names: Iterable[str]) -> str | None:
    return next((name for name in names if name in values), None)


def _size(values: Mapping[str, Any], names: Names) -> tuple[int, int] | None:
    name = _said(values, names.size)
    if name is None or values[name] == "auto":
        return None
    match = _SIZE.fullmatch(str(values[name])[:MOST_NAMED])
    if match is None:
        raise InvalidRequest(
            f"{name} {excerpt(values[name])} is no size; it takes one like 1280x720", param=name
        )
    return int(match[1]), int(match[2])


def _names_of_images(values: Mapping[str, Any], names: Names, files: Files) -> list[str]:
    """Return the names that have an image, the one that counts first; a file counts before."""
    said = [name for name in names.images if name in files]
    said += [name for name in names.images if name in values]
    return said or [names.images[0]]


def _plain(name: str, names: Names) -> str:
    """Return the name of a file part without the brackets of a list."""
    bare = name.removesuffix("[]")
    return bare if bare in names.images else name


def _images(values: Mapping[str, Any], name: str, files: Files) -> Images:
    """Return the images; the first may have any of the names that clients use for it."""
    parts = {each: files[each] for each in (name, *SINGLE) if each in files}
    image = None  # As in our own API, a part of that name is the image.
    if name not in files:
        image = _spelled(_parsed(values.get(name), name), name)
    elif name != "image":
        image = {"part": name}
    more = {each: _parsed(values.get(each), each) for each in IMAGE_FIELDS[1:]}
    with in_words_of(dict.fromkeys(IMAGE_PARAMS, name)):
        return read_images({**more, "image": image}, parts)


def _spelled(sent: Any, name: str) -> Any:
    """Return an image as our own API has it; an image in that form is unchanged."""
    if isinstance(sent, list) and len(sent) == 1:
        sent = sent[0]
    if isinstance(sent, Mapping) and "image_url" in sent:
        sent = sent["image_url"]
        sent = sent.get("url") if isinstance(sent, Mapping) else sent
    if isinstance(sent, Mapping) and "file_id" not in sent:
        return sent
    if isinstance(sent, str) and sent:
        return sent
    raise InvalidRequest(
        f"{name} {'takes' if sent else 'is missing; it takes'} one image: a file part of a"
        ' multipart form, a data URI, base64, or {"image_url": "https://…"}',
        param=name,
    )


def _parsed(value: Any, name: str) -> Any:
    """Return the value of a form's field that holds JSON."""
    if isinstance(value, str) and value.lstrip()[:1] in ("{", "["):
        return read_json(value.encode(errors="replace"), name, param=name)
    return value


def _side(side: int, spec: EngineSpec) -> int:
    least = -(-MIN_SIDE // spec.multiple)
    return spec.multiple * max(least, round(side / spec.multiple))


def _ignored(others: list[str]) -> str:
    shown = [begin(name) for name in others[:MOST_NAMED]]
    more = f" and {len(others) - MOST_NAMED} more" if len(others) > MOST_NAMED else ""
    return f"{', '.join(shown)}{more} was ignored: it means nothing here"
