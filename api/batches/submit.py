"""From a batch's body to many queued jobs: read, store a few images at a time, commit as one."""

import hashlib
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Final
from uuid import UUID

import anyio
import structlog
from starlette.requests import Request

from api.auth.caller import Caller
from api.batches.body import BatchItem, BatchPart, BatchRequest, read_batch, receive_batch, within
from api.body_limit import BATCH_BYTES, declared_bytes
from api.concurrency.body_memory import Reservation
from api.monitoring.disk_space import check_disk_space
from api.ports import Ports
from api.problems import request_id
from api.submit.allowed import choose_model
from api.submit.body import CreateRequest
from api.submit.fetch_source import image_from
from api.submit.idempotency import fingerprint
from api.submit.image_source import ImageSource
from api.submit.images import Images
from api.submit.remote_urls import check_webhook
from api.submit.submit import CheckedRequest, check_create, job_of, sealed
from shared.engines.registry import OfferedEngine
from shared.errors import AppError, DatabaseUnavailable
from shared.errors.images import ImageTooLarge
from shared.ids import new_id
from shared.jobs.batch import Batch, NewBatch
from shared.jobs.insert import same_request
from shared.jobs.new_job import NewJob
from shared.jobs.storage_keys import input_key

LANES: Final = 4
"""Images of one batch that are read at once; each also waits for its owner's turn."""

LEAST_SPOOL_BYTES: Final = 96 * 1024 * 1024
"""The least that a batch counts for. It may have a hundred open files, and a process has only some
thousands."""

MOST_BELLS: Final = 8
"""Bells for each model; workers that hear none look at the table a second later."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class SubmittedBatch:
    """A batch, and whether an earlier request with the same key had made it."""

    batch: Batch
    is_replay: bool


@dataclass(frozen=True, kw_only=True)
class CheckedBatch:
    """A batch with everything decided except its images."""

    batch: NewBatch
    orders: Sequence[CheckedRequest]
    images: Sequence[ImageSource | BatchPart]


async def submit_batch(
    request: Request, ports: Ports, caller: Caller, *, key: str | None
) -> SubmittedBatch:
    """Turn a request into queued jobs, all of them or none.

    Raises:
        InvalidRequest: the fields or an image; `param` names the item, and nothing is kept.
        QueueFull, QuotaExceeded: the queue or the quota has not enough left for all of them.
        Unavailable: as `submit`.
    """
    pools, owner_id = ports.pools, caller.owner_id
    size = max(declared_bytes(request.headers) or BATCH_BYTES, LEAST_SPOOL_BYTES)
    async with (
        pools.body_memory.reserve(owner_id) as reservation,
        pools.spool.turn(owner_id, size),
        receive_batch(request, ports.settings, reservation) as received,
    ):
        read = await pools.parsing.run(partial(read_batch, received), owner_id=owner_id)
        look_up = partial(_look_up, ports, caller, read, key, request_id(request.scope))
        found = await pools.database.run(look_up, owner_id=owner_id)
        if isinstance(found, Batch):
            return SubmittedBatch(found, is_replay=True)
        await _check_webhook(ports, read, owner_id)
        news = await _prepared(ports, found)
    return await pools.storing.run(partial(_accept, ports, caller, found, news), owner_id=owner_id)


def _look_up(
    ports: Ports, caller: Caller, read: BatchRequest, key: str | None, request_id: str
) -> CheckedBatch | Batch:
    """Return the batch that the key has made before, or the batch to make."""
    batch_id = new_id()
    new = NewBatch(
        id=batch_id,
        owner_id=caller.owner_id,
        metadata=read.metadata,
        webhook_url=read.webhook_url,
        idempotency_key=key,
        idempotency_fingerprint=_fingerprint(read),
        webhook_headers=(
            None if read.webhook is None else sealed(read.webhook, ports.header_seal, batch_id)
        ),
    )
    earlier = None if key is None else ports.batches.by_key(key, owner_id=caller.owner_id)
    if earlier is not None:
        return same_request(earlier, new.idempotency_fingerprint)
    offers: dict[str | None, OfferedEngine] = {}
    orders = []
    for number, item in enumerate(read.items):
        try:
            orders.append(_order(ports, caller, item, offers, request_id))
        except AppError as error:
            raise within(f"items.{number}", error)  # noqa: B904 (it is the same one)
    return CheckedBatch(batch=new, orders=orders, images=[item.image for item in read.items])


def _order(
    ports: Ports,
    caller: Caller,
    item: BatchItem,
    offers: dict[str | None, OfferedEngine],
    request_id: str,
) -> CheckedRequest:
    model = item.fields.model
    if model not in offers:
        offers[model] = choose_model(ports.registry, caller, model)
        check_disk_space(offers[model], ports.settings)
    image = b"" if isinstance(item.image, BatchPart) else item.image
    create = check_create(
        CreateRequest(item.fields, Images(image)), ports.settings, takes_urls=True
    )
    if isinstance(item.image, BatchPart):
        _check_size(item.image, ports.settings.max_upload_bytes)
    return CheckedRequest(
        create=create,
        offer=offers[model],
        owner_id=caller.owner_id,
        max_queued=caller.max_queued or ports.settings.max_queued_per_key,
        daily_seconds=caller.daily_seconds,
        source="batch",
        request_id=request_id,
        key=None,
        fingerprint=None,
    )


def _check_size(part: BatchPart, most: int) -> None:
    size = part.file.size or 0
    if size > most:
        raise ImageTooLarge(f"the image has {size} bytes; the limit is {most}", param="image")


def _fingerprint(read: BatchRequest) -> str:
    """Return a hash that is equal for equal batches, however they were spelled."""
    digest = hashlib.sha256(f"{read.webhook_url}\0".encode())
    for item in read.items:
        image = item.image.sha256 if isinstance(item.image, BatchPart) else item.image
        digest.update(fingerprint(item.fields, Images(image)).encode())
    return digest.hexdigest()


async def _check_webhook(ports: Ports, read: BatchRequest, owner_id: UUID) -> None:
    """Check the one address that the batch or each of its jobs names."""
    of_job = read.items[0].fields.webhook
    url = read.webhook_url or (None if of_job is None else str(of_job.url))
    if url is not None:
        await check_webhook(ports, url, param="webhook.url", owner_id=owner_id)


async def _prepared(ports: Ports, checked: CheckedBatch) -> list[NewJob]:
    """Decode and store every image, and return the jobs; after a failure nothing stays stored."""
    news: dict[int, NewJob] = {}

    async def prepare(number: int) -> None:
        new = await _prepare(ports, checked, number)
        news[number] = new

    try:
        await _in_lanes([partial(prepare, number) for number in range(len(checked.orders))])
    except BaseException:
        with anyio.CancelScope(shield=True):
            await _discard(ports, list(news.values()))
        raise
    return [news[number] for number in range(len(news))]


async def _prepare(ports: Ports, checked: CheckedBatch, number: int) -> NewJob:
    order, image = checked.orders[number], checked.images[number]
    async with ports.pools.body_memory.reserve(order.owner_id) as reservation:
        try:
            decoded = await image_from(
                ports,
                await _body(image, reservation),
                name="image",
                owner_id=order.owner_id,
                reservation=reservation,
            )
            new = await ports.pools.parsing.run(
                partial(job_of, order, [decoded], ports), owner_id=order.owner_id
            )
        except AppError as error:
            raise within(f"items.{number}", error)  # noqa: B904 (it is the same one)
        put = partial(ports.storage.put, input_key(new.id), decoded.png, content_type="image/png")
        await ports.pools.storing.run(put, owner_id=order.owner_id)
    return replace(new, batch_id=checked.batch.id, batch_position=number + 1)


async def _body(image: ImageSource | BatchPart, reservation: Reservation) -> ImageSource:
    if not isinstance(image, BatchPart):
        return image
    await reservation.grow(image.file.size or 0)
    await image.file.seek(0)
    return await image.file.read()


async def _in_lanes(work: Sequence[Callable[[], Awaitable[None]]]) -> None:
    """Do all of it, a few at a time; after a failure running work ends, and no more begins.

    Raises:
        AppError: the failure of the first item, in order, that failed.
    """
    waiting = list(enumerate(work))[::-1]
    failures: dict[int, AppError] = {}

    async def lane() -> None:
        while waiting and not failures:
            number, act = waiting.pop()
            try:
                await act()
            except AppError as error:
                failures[number] = error

    async with anyio.create_task_group() as group:
        for _ in range(LANES):
            group.start_soon(lane)
    if failures:
        raise failures[min(failures)]


def _accept(
    ports: Ports, caller: Caller, checked: CheckedBatch, news: Sequence[NewJob]
) -> SubmittedBatch:
    """Commit the batch, and ring for workers."""
    try:
        batch, jobs = ports.jobs.submit_batch(
            checked.batch,
            news,
            max_queued=caller.max_queued or ports.settings.max_queued_per_key,
            daily_seconds=caller.daily_seconds,
        )
    except DatabaseUnavailable:
        raise  # The commit may have happened, so the images may belong to jobs.
    except AppError:
        _remove(ports, news)
        raise
    if jobs is None:
        _remove(ports, news)
        return SubmittedBatch(batch, is_replay=True)
    for engine in {job.engine for job in jobs}:
        for _ in range(min(MOST_BELLS, sum(job.engine == engine for job in jobs))):
            ports.bell.ring(engine)
    _log.info("batch_submitted", batch=batch.public_id, jobs=batch.total)
    return SubmittedBatch(batch, is_replay=False)


async def _discard(ports: Ports, news: Sequence[NewJob]) -> None:
    if news:
        remove = partial(_remove, ports, news)
        with suppress(AppError):
            await ports.pools.storing.run(remove, owner_id=news[0].owner_id)


def _remove(ports: Ports, news: Sequence[NewJob]) -> None:
    """Remove images that no job refers to; the sweep finds later what fails here."""
    for new in news:
        with suppress(AppError):
            ports.storage.delete(input_key(new.id))
