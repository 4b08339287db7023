"""A batch's body: images in files, one set of parameters, and items that differ."""

import hashlib
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Annotated, Any, Final

from pydantic import Field, ValidationError
from starlette.datastructures import FormData, UploadFile
from starlette.requests import Request

from api.body_limit import with_image
from api.concurrency.body_memory import Reservation
from api.submit.blanks import without_blanks
from api.submit.body import (
    MAX_FIELDS,
    nested,
    read_fields,
    read_object,
    refuse_nul,
    resolve_aliases,
    spool,
)
from api.submit.charsets import check_charset
from api.submit.image_source import ImageSource, read_source
from api.submit.json_body import read_json
from api.submit.multipart import arrived, text_of
from api.validation_messages import explain
from shared.errors import AppError, BodyTooLarge, InvalidRequest, Unavailable, UnsupportedBody
from shared.excerpt import excerpt
from shared.jobs.batch import MAX_ITEMS
from shared.jobs.create import MAX_EVENT_TYPES, CreateJob, Webhook
from shared.settings import Settings
from shared.webhooks.events import BATCH_FINISHED, BatchEventType, EventType

MAX_WORDS_BYTES: Final = 4 * 1024 * 1024
"""The largest field of the form: a hundred items with the longest prompts and metadata have 3
MB."""

IN_MEMORY_BYTES: Final = 64 * 1024
"""The part of each file that is kept in memory while it arrives; for a hundred files 6 MiB."""

WITHOUT_ITEMS: Final = frozenset({"image", "images", "image[]", "images[]"})
"""The name that file parts must have if no item names them: each is then an item."""


BatchEvents = Annotated[tuple[EventType | BatchEventType, ...], Field(max_length=MAX_EVENT_TYPES)]


class BatchWebhook(Webhook):
    """The receiver of a batch's events, by default only of its end.

    `job.…` events come for each job.
    """

    event_types: BatchEvents = (BATCH_FINISHED,)  # type: ignore[assignment]  # One more than a job's.


_HOW: Final = (
    f"a batch has 1 to {MAX_ITEMS} items: a file part named image for each, or items, a list like"
    ' [{"image": {"url": "https://…"}, "seed": 7}]'
)
_SHOWN: Final = 5


@dataclass(frozen=True)
class BatchPart:
    """An image in a file part of the form."""

    file: UploadFile
    sha256: bytes


@dataclass(frozen=True)
class BatchItem:
    """A well-formed item; its image is still what the client sent."""

    fields: CreateJob
    image: ImageSource | BatchPart


@dataclass(frozen=True, kw_only=True)
class BatchRequest:
    """A well-formed batch; `metadata` is the batch's own, and each job gets it before its own."""

    items: Sequence[BatchItem]
    metadata: Mapping[str, str]
    webhook: BatchWebhook | None
    """The webhook for the batch's own end."""

    @property
    def webhook_url(self) -> str | None:
        return None if self.webhook is None else str(self.webhook.url)


@dataclass(frozen=True)
class ReceivedBatch:
    """A body that has arrived; its files are open, and nothing in it is trusted yet."""

    pairs: Sequence[tuple[str, str]] = ()
    files: Sequence[tuple[str, UploadFile]] = ()
    json: bytes | None = field(default=None, repr=False)


@asynccontextmanager
async def receive_batch(
    request: Request, settings: Settings, reservation: Reservation
) -> AsyncIterator[ReceivedBatch]:
    """Receive a batch's body and yield it; its images are in files until the end.

    Raises:
        UnsupportedBody, InvalidRequest, Busy, Unavailable: as `receive`.
    """
    kind, _, options = request.headers.get("content-type", "").partition(";")
    kind = kind.strip().lower()
    if kind == "application/json":
        yield ReceivedBatch(json=await _read_json(request, settings, reservation))
        return
    if kind != "multipart/form-data":
        raise UnsupportedBody(
            "send multipart/form-data with an image part for each clip, or application/json",
            param="Content-Type",
        )
    check_charset(options)
    form = await _read_form(request)
    try:
        yield await _sorted(form, reservation)
    finally:
        await form.close()


def read_batch(received: ReceivedBatch) -> BatchRequest:
    """Check a body item by item.

    Raises:
        InvalidRequest: `param` names the field, an item's as `items.3.prompt`; the first is 0.
    """
    shared = _shared(received)
    refuse_nul(shared)
    sent = shared.pop("items", None)
    shared = without_blanks(shared)
    resolve_aliases(shared)
    webhook = _webhook(shared.pop("webhook", None))
    if shared.pop("image", None) is not None:
        raise InvalidRequest("a batch has its images in items", param="image")
    of_jobs = _of_jobs(webhook)
    if of_jobs is not None:
        shared["webhook"] = of_jobs
    if sent is None:
        items = [BatchItem(read_fields(shared), part) for part in _parts_alone(received.files)]
    else:
        items = _items(sent, shared, received.files)
    tells_end = webhook is not None and BATCH_FINISHED in webhook.event_types
    return BatchRequest(
        items=items,
        metadata=read_fields(shared).metadata,
        webhook=webhook if tells_end else None,
    )


async def _read_json(request: Request, settings: Settings, reservation: Reservation) -> bytes:
    """Return a JSON body, at most as large as a create's, because memory holds all of it.

    Raises:
        BodyTooLarge: it is larger; files of a form may be.
    """
    body = await spool(request, reservation)
    limit = with_image(settings)
    if len(body) > limit.bytes:
        raise BodyTooLarge(
            f"a batch in JSON may have {limit.bytes} bytes; send the images as parts of a form"
        )
    return body


async def _read_form(request: Request) -> FormData:
    try:
        return await arrived(
            request,
            max_files=MAX_ITEMS,
            max_fields=MAX_FIELDS,
            max_text_bytes=MAX_WORDS_BYTES,
            in_memory_bytes=IN_MEMORY_BYTES,
        )
    except OSError as error:
        raise Unavailable("there is no space for so large a body now; try again") from error


async def _sorted(form: FormData, reservation: Reservation) -> ReceivedBatch:
    pairs: list[tuple[str, str]] = []
    files: list[tuple[str, UploadFile]] = []
    for name, value in form.multi_items():
        if isinstance(value, str):
            await reservation.grow(len(value))
            pairs.append((name, value))
        elif not value.size:  # Browsers also send a file input that was left empty.
            continue
        elif (text := await text_of(name, value)) is not None:
            await reservation.grow(len(text))
            pairs.append((name, text))
        else:
            files.append((name, value))
    return ReceivedBatch(pairs=pairs, files=files)


def _shared(received: ReceivedBatch) -> dict[str, Any]:
    """Return the values of the body: the fields that all items share, and `items`."""
    if received.json is not None:
        return read_object(received.json)
    items = [text for name, text in received.pairs if name == "items" and text]
    if len(items) > 1:
        raise InvalidRequest("items is sent twice; send it once", param="items")
    values = nested([pair for pair in received.pairs if pair[0] != "items"])
    if items:
        values["items"] = read_json(items[0].encode(errors="replace"), "items", param="items")
    return values


def _webhook(sent: object) -> BatchWebhook | None:
    if sent is None:
        return None
    try:
        return BatchWebhook.model_validate(sent)
    except ValidationError as error:
        found = error.errors(include_url=False)
        raise explain([each | {"loc": ("webhook", *each["loc"])} for each in found]) from error


def _of_jobs(webhook: BatchWebhook | None) -> dict[str, Any] | None:
    """Return the webhook of each job: the batch's own, without the batch's end."""
    if webhook is None:
        return None
    told = [event for event in webhook.event_types if event != BATCH_FINISHED]
    headers = {name: value.get_secret_value() for name, value in webhook.headers.items()}
    return {"url": str(webhook.url), "event_types": told, "headers": headers} if told else None


def _parts_alone(files: Sequence[tuple[str, UploadFile]]) -> list[BatchPart]:
    """Return the images of a form without items: each is an item."""
    for name, _ in files:
        if name not in WITHOUT_ITEMS:
            raise InvalidRequest(
                f"the file part is named {excerpt(name)}; name it image, or have an item say"
                ' {"image": {"part": NAME}}',
                param="image",
            )
    if not files:
        raise InvalidRequest(_HOW, param="items")
    return [_part(file) for _, file in files]


def _items(
    sent: object, shared: Mapping[str, Any], files: Sequence[tuple[str, UploadFile]]
) -> list[BatchItem]:
    if not isinstance(sent, list) or not 1 <= len(sent) <= MAX_ITEMS:
        raise InvalidRequest(_HOW, param="items")
    parts = dict(files)
    if len(parts) < len(files):
        raise InvalidRequest("two file parts have one name; give each its own", param="items")
    used: set[str] = set()
    items = []
    for number, each in enumerate(sent):
        with _named(f"items.{number}"):
            items.append(_item(each, shared, parts, used))
    for name in parts:
        if name not in used:
            raise InvalidRequest(
                f"no item names the file part {excerpt(name)}; one does with"
                ' {"image": {"part": NAME}}',
                param="items",
            )
    return items


def _item(
    sent: object, shared: Mapping[str, Any], parts: Mapping[str, UploadFile], used: set[str]
) -> BatchItem:
    if not isinstance(sent, Mapping):
        raise InvalidRequest('an item is an object, like {"image": {"url": "https://…"}}')
    own = without_blanks(sent)
    resolve_aliases(own)
    if "webhook" in own:
        raise InvalidRequest("a batch has one webhook; put it beside items", param="webhook")
    image = own.pop("image", None)
    merged = {**shared, **own}
    both = [values.get("metadata") for values in (shared, own)]
    if all(isinstance(each, Mapping) for each in both):
        merged["metadata"] = {**both[0], **both[1]}  # type: ignore[dict-item]  # As just seen.
    if isinstance(image, Mapping) and set(image) == {"part"}:
        source: ImageSource | BatchPart = _named_part(image["part"], parts, used)
    else:
        source = read_source(image, {})
    return BatchItem(read_fields(merged), source)


def _named_part(name: object, parts: Mapping[str, UploadFile], used: set[str]) -> BatchPart:
    if not isinstance(name, str) or name not in parts:
        there = ", ".join(excerpt(each) for each in list(parts)[:_SHOWN]) or "none"
        raise InvalidRequest(
            f"image.part names a file part of the same form; there is {there}", param="image.part"
        )
    used.add(name)
    return _part(parts[name])


def _part(file: UploadFile) -> BatchPart:
    file.file.seek(0)
    digest = hashlib.file_digest(file.file, "sha256").digest()  # type: ignore[arg-type]
    return BatchPart(file, digest)


@contextmanager
def _named(name: str) -> Iterator[None]:
    """Make errors inside the block name this item."""
    try:
        yield
    except AppError as error:
        raise within(name, error)  # noqa: B904 (it is the same one)


def within(name: str, error: AppError) -> AppError:
    """Return an error whose `param` and message begin with its item."""
    error.param = name if error.param is None else f"{name}.{error.param}"
    error.message = f"{name}: {error.message}"
    return error
