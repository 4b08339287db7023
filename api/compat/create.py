"""Another protocol's create request, as the one that our own API takes."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Final, Self

from pydantic import TypeAdapter, ValidationError
from starlette.requests import Request

from api.auth.caller import Caller
from api.ports import Ports
from api.submit.body import (
    ALIASES,
    CreateRequest,
    ImageUrl,
    Received,
    read_named,
    read_picture,
)
from api.submit.dialect import Dialect
from api.submit.json_body import read_json
from api.submit.submit import Submitted, submit
from api.validation_messages import explain
from shared.engines.spec import MIN_SIDE, EngineSpec
from shared.errors import InvalidRequest
from shared.excerpt import begin, excerpt
from shared.jobs.create import CreateJob
from shared.numbers import Real

OURS: Final = frozenset({*CreateJob.model_fields, *ALIASES})
MOST_NAMED: Final = 20
"""Of names that mean nothing here: the rest is counted."""

LONGEST_CLIP_SECONDS: Final = 3600

_SIZE: Final = re.compile(r"(\d{1,5})\s*[xX*×]\s*(\d{1,5})")
_SECONDS: Final = TypeAdapter(Real)


@dataclass(frozen=True, kw_only=True)
class Names:
    """What a protocol calls things.

    Attributes:
        pictures: the fields that may hold the picture; the first is named in errors.
        ours: its names of our fields.
        size: its names of a text like 1280x720.
        seconds: its names of a clip's length.
        more: fields that hold an object of more fields.
    """

    pictures: tuple[str, ...]
    ours: Mapping[str, str] = field(default_factory=dict)
    size: tuple[str, ...] = ("size",)
    seconds: tuple[str, ...] = ("seconds", "duration")
    more: tuple[str, ...] = ()

    @property
    def all(self) -> frozenset[str]:
        named = {*self.pictures, *self.ours, *self.size, *self.seconds, *self.more}
        return OURS | named


@dataclass(frozen=True)
class ForeignRequest(CreateRequest):
    """A create request in another protocol's words, before an engine was chosen for it."""

    size: tuple[int, int] | None = None
    seconds: float | None = None
    params: Mapping[str, str] = field(default_factory=dict)

    def fitted(self, spec: EngineSpec) -> Self:
        """Return the request with the size and the length that come nearest in this engine."""
        changes: dict[str, int] = {}
        warnings = [*self.warnings]
        if self.size is not None:
            width, height = (_side(side, spec) for side in self.size)
            changes |= {"width": width, "height": height}
            if (width, height) != self.size:
                warnings.append(
                    f"size {self.size[0]}x{self.size[1]} became {width}x{height}: sides of"
                    f" {spec.name} are multiples of {spec.multiple}"
                )
        fps = spec.defaults.fps if self.fields.fps is None else self.fields.fps
        if self.seconds is not None and fps > 0:
            least, most = int(spec.num_frames.low), int(spec.num_frames.high)
            wanted = round(self.seconds * fps)
            changes["num_frames"] = frames = min(max(wanted, least), most)
            if frames != wanted:
                warnings.append(
                    f"{self.seconds:g} seconds became {frames / fps:g}: {spec.name} makes"
                    f" {least} to {most} frames, {fps} a second here"
                )
        fields = self.fields.model_copy(update=changes)
        return replace(self, fields=fields, warnings=tuple(warnings))


async def submit_foreign(
    request: Request,
    ports: Ports,
    caller: Caller,
    read: Callable[[Received], ForeignRequest],
    *,
    key: str | None,
    source: str,
    file_parts: Iterable[str] = (),
) -> Submitted:
    """Turn a body in another protocol's words into a queued job.

    Raises:
        What `submit` raises; `param` is the name that the client used.
    """
    words: dict[str, str] = {}

    def note(received: Received) -> ForeignRequest:
        found = read(received)
        words.update(found.params)
        return found

    dialect = Dialect(note, frozenset(file_parts))
    with in_words_of(words):
        return await submit(request, ports, caller, key=key, source=source, dialect=dialect)


def read_foreign(received: Received, names: Names, **fixed: Any) -> ForeignRequest:
    """Check a body in another protocol's words.

    Raises:
        InvalidRequest: a value is wrong; `param` is the name that the client used.
    """
    values, others = read_named(received, names.all)
    return foreign_request(values, others, names, file=received.file, **fixed)


def foreign_request(
    values: Mapping[str, Any],
    others: Iterable[str],
    names: Names,
    *,
    file: bytes | None = None,
    **fixed: Any,
) -> ForeignRequest:
    """Return the request that these values make.

    Args:
        others: names that mean nothing here; a warning tells of them.
        file: the picture, where it was a part of a form.
        fixed: our fields that the protocol says elsewhere.
    """
    values, others = _opened(values, [*others], names)
    warnings = [_ignored(others)] if others else []
    image = file if file is not None else _picture(values, names)
    ours, params = _ours(values, names)
    size = _size(values, names)
    if size is not None and ("width" in ours or "height" in ours):
        size = None
        warnings.append("size was ignored: width and height decide the size")
    seconds = _seconds(values, names)
    if seconds is not None and "num_frames" in ours:
        seconds = None
        warnings.append("seconds was ignored: num_frames decides the length")
    with in_words_of(params):
        try:
            fields = CreateJob.model_validate({**ours, **fixed})
        except ValidationError as error:
            raise explain(error.errors(include_url=False), sorted(names.all)) from error
    return ForeignRequest(fields, image, tuple(warnings), None, size, seconds, params)


@contextmanager
def in_words_of(params: Mapping[str, str]) -> Iterator[None]:
    """Have what is refused meanwhile name the field as its client does."""
    try:
        yield
    except InvalidRequest as error:
        error.param = params.get(error.param or "", error.param)
        raise


def _opened(
    values: Mapping[str, Any], others: list[str], names: Names
) -> tuple[dict[str, Any], list[str]]:
    """Return the values with those that lie in objects; what is said outside wins."""
    found = {name: value for name, value in values.items() if value is not None}
    for name in names.more:
        inner = _parsed(found.pop(name, None), name)
        if inner is None:
            continue
        if not isinstance(inner, Mapping):
            raise InvalidRequest(f"{name} takes an object of names and values", param=name)
        for key, value in inner.items():
            if key not in names.all or key in names.more:
                others.append(f"{name}.{key}")
            elif value is not None:
                found.setdefault(key, value)
    return found, others


def _ours(values: Mapping[str, Any], names: Names) -> tuple[dict[str, Any], dict[str, str]]:
    """Return our fields, and for each that the client calls otherwise its own name."""
    found: dict[str, Any] = {}
    params = dict.fromkeys(("image", "image.url"), names.pictures[0])
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
    return next((name for name in names if values.get(name) not in (None, "")), None)


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


def _seconds(values: Mapping[str, Any], names: Names) -> float | None:
    name = _said(values, names.seconds)
    if name is None:
        return None
    try:
        seconds = _SECONDS.validate_python(values[name])
    except ValidationError as error:
        raise InvalidRequest(
            f"{name} must be a number, not {excerpt(values[name])}", param=name
        ) from error
    if not 0 < seconds <= LONGEST_CLIP_SECONDS:
        raise InvalidRequest(
            f"{name} {excerpt(values[name])} is out of range; it takes more than 0 and"
            f" {LONGEST_CLIP_SECONDS} at most",
            param=name,
        )
    return seconds


def _picture(values: Mapping[str, Any], names: Names) -> bytes | ImageUrl:
    """Return the picture in any of the spellings that clients use for it."""
    name = _said(values, names.pictures) or names.pictures[0]
    sent = _parsed(values.get(name), name)
    if isinstance(sent, list) and len(sent) == 1:
        sent = sent[0]
    if isinstance(sent, Mapping):
        sent = next(
            (sent[key] for key in ("image_url", "url", "data") if sent.get(key)), dict(sent)
        )
        sent = sent.get("url", sent) if isinstance(sent, Mapping) else sent
    if not isinstance(sent, str):
        raise InvalidRequest(
            f"{name} {'is missing; it ' if not sent else ''}takes one picture: a file part of a"
            ' multipart form, a data URI, or {"image_url": "https://…"}',
            param=name,
        )
    is_data = sent[:5].lower() == "data:"
    with in_words_of(dict.fromkeys(("image", "image.url"), name)):
        return read_picture(sent if is_data else {"url": sent})


def _parsed(value: Any, name: str) -> Any:
    """Return what a form's field means that holds JSON."""
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
