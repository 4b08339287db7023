"""From a client's request to a queued job: read, settle, store, commit, ring."""

import secrets
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from uuid import UUID

import structlog
from starlette.requests import Request

from api.advice import advise
from api.auth import Caller
from api.bodies import Create, ImageUrl, read_create, receive
from api.deps import Ports
from api.lanes import Share
from api.outgoing import check_webhook, fetch_image
from api.picture import Picture
from api.preferences import fingerprint
from api.problems import request_id
from api.room import check_room
from shared.admission import admit
from shared.catalogue import MAX_SEED, Parameters, settle
from shared.crashpoints import crashpoint
from shared.errors import AppError, DatabaseUnavailable, ImageTooLarge, InvalidRequest
from shared.fleet import Offer
from shared.job import Job, input_key, new_id
from shared.jobs import same_request
from shared.new_job import NewJob
from shared.settings import Settings
from shared.storage import Storage

_log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Submitted:
    """A job, and whether an earlier request with the same key had made it."""

    job: Job
    is_replay: bool


@dataclass(frozen=True, kw_only=True)
class Order:
    """A create request with everything but its picture decided."""

    create: Create
    offer: Offer
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
    settings, lanes = ports.settings, ports.lanes
    with lanes.room.share() as share:
        received = await receive(request, max_bytes=settings.max_upload_bytes, share=share)

        read = await lanes.parsing.run(partial(read_create, received))
        create = _checked(read, settings, takes_urls=takes_urls)

        def look_up() -> Order | Job:
            order = _order(create, ports, caller, key, source, request_id(request.scope))
            earlier = _earlier(ports, order)
            if earlier is None:
                check_room(order.offer, settings)
            return earlier or order

        found = await lanes.database.run(look_up)
        if isinstance(found, Job):
            return Submitted(found, is_replay=True)
        order = found
        image = await _image(order, ports, share)
        picture = await lanes.decoding.run(
            partial(ports.decoders.read_image, image, max_pixels=settings.max_pixels)
        )
    return await lanes.storing.run(partial(_accept, ports, order, picture))


async def _image(order: Order, ports: Ports, share: Share) -> bytes:
    """Return the picture as it was sent or lies behind its URL, once the webhook was judged."""
    webhook, image = order.create.fields.webhook, order.create.image
    if webhook is not None:
        await check_webhook(ports, str(webhook.url), param="webhook.url")
    if not isinstance(image, ImageUrl):
        return image
    fetched = await fetch_image(ports, image.url, owner_id=order.owner_id)
    share.grow(len(fetched))
    return fetched


def _checked(create: Create, settings: Settings, *, takes_urls: bool) -> Create:
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
    create: Create, ports: Ports, caller: Caller, key: str | None, source: str, request_id: str
) -> Order:
    return Order(
        create=create,
        offer=ports.fleet.choose(create.fields.model),
        owner_id=caller.owner_id,
        max_queued=caller.max_queued or ports.settings.max_queued_per_key,
        source=source,
        request_id=request_id,
        key=key,
        fingerprint=fingerprint(create.fields, create.image),
    )


def _earlier(ports: Ports, order: Order) -> Job | None:
    """Return the job the key has made already, before anything is decoded or stored."""
    if order.key is None:
        return None
    job = ports.ledger.by_key(order.key, owner_id=order.owner_id)
    return None if job is None else same_request(job, order.fingerprint)


def _accept(ports: Ports, order: Order, picture: Picture) -> Submitted:
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


def _new_job(order: Order, picture: Picture, settings: Settings) -> NewJob:
    fields, spec = order.create.fields, order.offer.spec
    parameters, gpu_bytes = _settled(order, picture)
    ttl = fields.queue_ttl_seconds
    webhook = fields.webhook
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
        warnings=(*advise(order.offer, fields), *picture.warnings),
        queue_ttl=None if ttl is None else timedelta(seconds=ttl),
    )


def _settled(order: Order, picture: Picture) -> tuple[Parameters, int | None]:
    """Return the values to render with, and what they need of a card, if its engine says so.

    Raises:
        InvalidRequest: the engine does not take these values.
        TooLargeForGpu: no card at work has the memory.
    """
    fields, spec = order.create.fields, order.offer.spec
    parameters = settle(
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
