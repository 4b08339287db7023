"""From a client's request to a queued job: read, settle, store, commit, ring."""

import secrets
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from uuid import UUID

import structlog
from starlette.requests import Request

from api.auth.caller import Caller
from api.body_limit import declared_bytes
from api.concurrency.body_memory import Reservation
from api.images.protocol import Picture
from api.monitoring.disk_space import check_disk_space
from api.ports import Ports
from api.problems import request_id
from api.submit.body import CreateRequest, ImageUrl, read_create, receive
from api.submit.gpu_fit import admit
from api.submit.idempotency import fingerprint
from api.submit.remote_urls import check_webhook, fetch_image
from api.submit.warnings import shape_warnings, warnings_for
from shared.crashpoints import crashpoint
from shared.engines.parameters import RenderParameters, resolve_parameters
from shared.engines.registry import OfferedEngine
from shared.engines.spec import MAX_SEED
from shared.errors import AppError, DatabaseUnavailable, ImageTooLarge, InvalidRequest
from shared.ids import new_id
from shared.jobs.job import Job
from shared.jobs.new_job import NewJob
from shared.jobs.storage_keys import input_key
from shared.jobs.transitions import same_request
from shared.settings import Settings
from shared.storage import Storage

_log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Submitted:
    """A job, and whether an earlier request with the same key had made it."""

    job: Job
    is_replay: bool


@dataclass(frozen=True, kw_only=True)
class CheckedRequest:
    """A create request with everything but its picture decided."""

    create: CreateRequest
    offer: OfferedEngine
    owner_id: UUID
    max_queued: int
    source: str
    request_id: str
    key: str | None
    fingerprint: str


async def submit(
    request: Request,
    ports: Ports,
    caller: Caller,
    *,
    key: str | None,
    source: str,
    takes_urls: bool = True,
) -> Submitted:
    """Turn a request into a queued job, each slow part in its own lane.

    Raises:
        InvalidRequest: the fields or the picture; nothing was stored.
        OutboundRefused: the job's own webhook could not be delivered to.
        QueueFull: the owner has too many jobs waiting.
        StorageFull, WorkersFull: there is no room for one more clip.
        Unavailable: the database or the storage. The job may exist if the commit's answer was
            lost: a client that sent a key finds out by sending it again.
    """
    settings, pools, owner_id = ports.settings, ports.pools, caller.owner_id
    max_bytes = settings.max_upload_bytes
    async with pools.body_memory.reserve(owner_id) as reservation:
        # Until then the body is not asked for and waits where it comes from.
        # One in chunks does not say what it will take of the disk.
        async with pools.spool.turn(owner_id, declared_bytes(request.headers) or max_bytes):
            received = await receive(request, max_bytes=max_bytes, reservation=reservation)

        read = await pools.parsing.run(partial(read_create, received), owner_id=owner_id)
        create = _checked(read, settings, takes_urls=takes_urls)

        def look_up() -> CheckedRequest | Job:
            order = _order(create, ports, caller, key, source, request_id(request.scope))
            earlier = _earlier(ports, order)
            if earlier is None:
                check_disk_space(order.offer, settings)
            return earlier or order

        found = await pools.database.run(look_up, owner_id=owner_id)
        if isinstance(found, Job):
            return Submitted(found, is_replay=True)
        order = found
        image = await _image(order, ports, reservation)
        picture = await pools.decoding.run(
            partial(ports.decoders.read_image, image, max_pixels=settings.max_pixels),
            owner_id=owner_id,
        )
    return await pools.storing.run(partial(_accept, ports, order, picture), owner_id=owner_id)


async def _image(order: CheckedRequest, ports: Ports, reservation: Reservation) -> bytes:
    """Return the picture as it was sent or lies behind its URL, once the webhook was judged."""
    webhook, image = order.create.fields.webhook, order.create.image
    if webhook is not None:
        url = str(webhook.url)
        await check_webhook(ports, url, param="webhook.url", owner_id=order.owner_id)
    if not isinstance(image, ImageUrl):
        return image
    return await fetch_image(ports, image.url, owner_id=order.owner_id, reservation=reservation)


def _checked(create: CreateRequest, settings: Settings, *, takes_urls: bool) -> CreateRequest:
    if isinstance(create.image, ImageUrl):
        if not takes_urls:
            raise InvalidRequest(
                "a URL is fetched by POST /v1/jobs only; send the picture itself here",
                param="image.url",
            )
    elif len(create.image) > settings.max_upload_bytes:
        raise ImageTooLarge(
            f"the image has {len(create.image)} bytes; the limit is {settings.max_upload_bytes}",
            param="image",
        )
    retain = create.fields.retain_seconds
    if retain is not None and retain > settings.retain_seconds:
        raise InvalidRequest(
            f"retain_seconds {retain} is longer than files are kept here;"
            f" it takes 60 to {settings.retain_seconds}",
            param="retain_seconds",
        )
    return create


def _order(
    create: CreateRequest,
    ports: Ports,
    caller: Caller,
    key: str | None,
    source: str,
    request_id: str,
) -> CheckedRequest:
    return CheckedRequest(
        create=create,
        offer=ports.registry.choose(create.fields.model),
        owner_id=caller.owner_id,
        max_queued=caller.max_queued or ports.settings.max_queued_per_key,
        source=source,
        request_id=request_id,
        key=key,
        fingerprint=fingerprint(create.fields, create.image),
    )


def _earlier(ports: Ports, order: CheckedRequest) -> Job | None:
    """Return the job the key has made already, before anything is decoded or stored."""
    if order.key is None:
        return None
    job = ports.queries.by_key(order.key, owner_id=order.owner_id)
    return None if job is None else same_request(job, order.fingerprint)


def _accept(ports: Ports, order: CheckedRequest, picture: Picture) -> Submitted:
    """Settle the values, store the picture, commit the job, and ring for a worker."""
    new = _new_job(order, picture, ports.settings)
    key = input_key(new.id)
    ports.storage.put(key, picture.png, content_type="image/png")
    crashpoint("picture_stored")
    try:
        job, is_replay = ports.jobs.submit(new, max_queued=order.max_queued)
    except DatabaseUnavailable:
        raise  # The commit may have happened: the picture may belong to a job.
    except AppError:
        _discard(ports.storage, key)
        raise
    if is_replay:
        _discard(ports.storage, key)
        return Submitted(job, is_replay=True)
    crashpoint("submit_after_commit")
    ports.bell.ring(job.engine)
    crashpoint("bell_rung")
    _log.info("job_submitted", job=job.public_id, engine=job.engine, source=job.source)
    return Submitted(job, is_replay=False)


def _new_job(order: CheckedRequest, picture: Picture, settings: Settings) -> NewJob:
    fields, spec = order.create.fields, order.offer.spec
    parameters, gpu_bytes = _settled(order, picture)
    ttl = fields.queue_ttl_seconds
    webhook = fields.webhook
    shape = shape_warnings(
        spec, parameters, image_width=picture.width, image_height=picture.height
    )
    return NewJob(
        id=new_id(),
        owner_id=order.owner_id,
        engine=spec.name,
        engine_revision=spec.revision,
        parameters=parameters,
        image_sha256=picture.sha256,
        image_width=picture.width,
        image_height=picture.height,
        gpu_bytes=gpu_bytes,
        source=order.source,
        retain=timedelta(seconds=fields.retain_seconds or settings.retain_seconds),
        outputs=tuple(dict.fromkeys(fields.outputs)),
        priority=fields.priority,
        request_id=order.request_id,
        idempotency_key=order.key,
        idempotency_fingerprint=order.fingerprint,
        webhook_url=None if webhook is None else str(webhook.url),
        webhook_event_types=() if webhook is None else webhook.event_types,
        metadata=fields.metadata,
        warnings=(*warnings_for(order.offer, fields), *picture.warnings, *shape),
        queue_ttl=None if ttl is None else timedelta(seconds=ttl),
    )


def _settled(order: CheckedRequest, picture: Picture) -> tuple[RenderParameters, int | None]:
    """Return the values to render with, and what they need of a card, if its engine says so.

    Raises:
        InvalidRequest: the engine does not take these values.
        TooLargeForGpu: no card at work has the memory.
    """
    fields, spec = order.create.fields, order.offer.spec
    parameters = resolve_parameters(
        spec,
        fields,
        image_width=picture.width,
        image_height=picture.height,
        seed=secrets.randbelow(MAX_SEED + 1),
    )
    gpu_bytes = admit(
        spec,
        fields,
        parameters,
        image_width=picture.width,
        image_height=picture.height,
        card_bytes=order.offer.card_bytes,
    )
    return parameters, gpu_bytes


def _discard(storage: Storage, key: str) -> None:
    """Remove a picture that no job refers to; what fails here the sweep finds later."""
    with suppress(AppError):
        storage.delete(key)
