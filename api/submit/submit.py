"""From a client's request to a queued job: read, resolve, store, commit, ring."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from uuid import UUID

import structlog
from starlette.requests import Request

from api.auth.caller import Caller
from api.body_limit import declared_bytes
from api.concurrency.body_memory import Reservation
from api.images.protocol import DecodedImage
from api.monitoring.disk_space import check_disk_space
from api.ports import Ports
from api.problems import request_id
from api.submit.allowed import choose_model
from api.submit.body import CreateRequest, Received, read_create, receive
from api.submit.fetch_source import image_from
from api.submit.idempotency import fingerprint
from api.submit.image_source import ImageUrl
from api.submit.queue_job import Store, Submitted, queue_job
from api.submit.remote_urls import check_webhook
from api.submit.settle import price_micros, settle
from api.submit.warnings import shape_warnings, warnings_for
from shared.engines.given_images import GivenImages
from shared.engines.parameters import RenderParameters
from shared.engines.registry import OfferedEngine
from shared.errors import DatabaseUnavailable, InvalidRequest
from shared.errors.images import ImageTooLarge
from shared.ids import new_id
from shared.jobs.create import Webhook
from shared.jobs.inputs import Input, keyframe_name
from shared.jobs.insert import same_request
from shared.jobs.job import Job
from shared.jobs.new_job import NewJob
from shared.jobs.storage_keys import input_key
from shared.settings import Settings
from shared.webhooks.headers import HeaderSeal

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class CheckedRequest:
    """A create request with everything decided except its images."""

    create: CreateRequest
    offer: OfferedEngine
    owner_id: UUID
    max_queued: int
    daily_seconds: int | None
    source: str
    request_id: str
    key: str | None
    fingerprint: str | None


async def submit(
    request: Request,
    ports: Ports,
    caller: Caller,
    *,
    key: str | None,
    source: str,
    takes_urls: bool = True,
    read: Callable[[Received], CreateRequest] | None = None,
) -> Submitted:
    """Turn a request into a queued job, each slow part in its own thread pool.

    Args:
        read: checks a body of another protocol; None means our own.

    Raises:
        InvalidRequest: the fields or the image; nothing was stored.
        OutboundRefused: nothing could be delivered to the job's own webhook.
        ModelNotAllowed: the caller's key is limited to other models.
        QueueFull, QuotaExceeded: the owner has too many jobs waiting, or no seconds left today.
        StorageFull, WorkersFull: there is no disk space for one more clip.
        Unavailable: the database or the storage. The job may exist if the commit's answer was
            lost: a client that sent a key finds out by sending it again.
    """
    settings, pools, owner_id = ports.settings, ports.pools, caller.owner_id
    max_bytes = settings.max_upload_bytes
    async with pools.body_memory.reserve(owner_id) as reservation:
        # Until then the body is not read, and waits at its sender.
        async with pools.spool.turn(owner_id, declared_bytes(request.headers) or max_bytes):
            received = await receive(request, max_bytes=max_bytes, reservation=reservation)

        said = await pools.parsing.run(partial(read or read_create, received), owner_id=owner_id)
        create = check_create(said, settings, takes_urls=takes_urls)

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
        images = await _images(order, ports, reservation)
    return await pools.storing.run(partial(_accept, ports, order, images), owner_id=owner_id)


async def _images(
    order: CheckedRequest, ports: Ports, reservation: Reservation
) -> Sequence[DecodedImage]:
    """Return the bytes of the images, one after another, after the webhook was checked."""
    webhook = order.create.fields.webhook
    if webhook is not None:
        url = str(webhook.url)
        await check_webhook(ports, url, param="webhook.url", owner_id=order.owner_id)
    read = partial(image_from, ports, owner_id=order.owner_id, reservation=reservation)
    return [await read(source, name=name) for name, source in order.create.images]


def check_create(create: CreateRequest, settings: Settings, *, takes_urls: bool) -> CreateRequest:
    for name, image in create.images:
        if not isinstance(image, bytes):
            if not takes_urls:
                raise InvalidRequest(
                    "a URL, an upload or a frame is fetched by POST /v1/jobs only; send the"
                    " image itself here",
                    param="image.url" if isinstance(image, ImageUrl) else name,
                )
        elif len(image) > settings.max_upload_bytes:
            raise ImageTooLarge(
                f"the image has {len(image)} bytes; the limit is {settings.max_upload_bytes}",
                param=name,
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
    offer = choose_model(ports.registry, caller, create.fields.model)
    given = create.images.given
    if given != GivenImages():
        given.check(offer.spec, tuple(other.spec for other in ports.registry.offers()))
    create = create.fitted(offer.spec)
    return CheckedRequest(
        create=create,
        offer=offer,
        owner_id=caller.owner_id,
        max_queued=caller.max_queued or ports.settings.max_queued_per_key,
        daily_seconds=caller.daily_seconds,
        source=source,
        request_id=request_id,
        key=key,
        fingerprint=fingerprint(create.fields, create.images),
    )


def _earlier(ports: Ports, order: CheckedRequest) -> Job | None:
    """Return the job that the key has made before, before anything is decoded or stored."""
    if order.key is None:
        return None
    job = ports.queries.by_key(order.key, owner_id=order.owner_id)
    return None if job is None else same_request(job, order.fingerprint)


def _accept(ports: Ports, order: CheckedRequest, images: Sequence[DecodedImage]) -> Submitted:
    """Resolve the values, and queue the job with its images."""
    new = job_of(order, images, ports)
    return queue_job(
        ports,
        replace(new, expected_seconds=_expected(ports, new)),
        list(map(_put, images)),
        max_queued=order.max_queued,
        daily_seconds=order.daily_seconds,
    )


def _expected(ports: Ports, new: NewJob) -> float | None:
    """Return the expected end, by the estimate that the client could have asked for before."""
    with suppress(DatabaseUnavailable):
        return ports.queues.get().engine(new.engine).estimate(new.parameters).end_seconds
    return None


def _put(image: DecodedImage) -> Store:
    return lambda storage, key: storage.put(key, image.png, content_type="image/png")


def job_of(order: CheckedRequest, images: Sequence[DecodedImage], ports: Ports) -> NewJob:
    """Return the values of the job's rows, with every parameter resolved.

    Raises:
        InvalidRequest, TooLargeForGpu: the engine does not take these values, or no card has the
            memory.
    """
    fields, spec = order.create.fields, order.offer.spec
    image, *more = images
    parameters, gpu_bytes = settle(
        order.offer,
        fields,
        order.create.images.given,
        image_width=image.width,
        image_height=image.height,
    )
    job_id = new_id()
    ttl = fields.queue_ttl_seconds
    webhook = fields.webhook
    return NewJob(
        id=job_id,
        owner_id=order.owner_id,
        engine=spec.name,
        engine_revision=spec.revision,
        parameters=parameters,
        image_sha256=image.sha256,
        image_width=image.width,
        image_height=image.height,
        more_inputs=_more_inputs(job_id, parameters, more),
        needs=parameters.needs,
        gpu_bytes=gpu_bytes,
        price_micros=price_micros(spec, parameters),
        source=order.source,
        retain=timedelta(seconds=fields.retain_seconds or ports.settings.retain_seconds),
        outputs=tuple(dict.fromkeys(fields.outputs)),
        priority=fields.priority,
        request_id=order.request_id,
        idempotency_key=order.key,
        idempotency_fingerprint=order.fingerprint,
        webhook_url=None if webhook is None else str(webhook.url),
        webhook_event_types=() if webhook is None else webhook.event_types,
        webhook_headers=None if webhook is None else sealed(webhook, ports.header_seal, job_id),
        metadata=fields.metadata,
        warnings=_warnings(order, parameters, images),
        queue_ttl=None if ttl is None else timedelta(seconds=ttl),
    )


def _warnings(
    order: CheckedRequest, parameters: RenderParameters, images: Sequence[DecodedImage]
) -> tuple[str, ...]:
    """Return what is wrong with the request and does not keep it from being done."""
    first, spec = images[0], order.offer.spec
    return (
        *order.create.warnings,
        *warnings_for(order.offer, order.create.fields, parameters),
        *(warning for image in images for warning in image.warnings),
        *shape_warnings(spec, parameters, image_width=first.width, image_height=first.height),
    )


def sealed(webhook: Webhook, seal: HeaderSeal, of: UUID) -> str | None:
    """Return the headers as they may be stored: only the installation's secret opens them."""
    if not webhook.headers:
        return None
    _log.info("webhook_headers_kept", of=of.hex, names=sorted(webhook.headers))
    headers = {name: value.get_secret_value() for name, value in webhook.headers.items()}
    return seal.seal(headers, of=of)


def _more_inputs(
    job_id: UUID, parameters: RenderParameters, images: Sequence[DecodedImage]
) -> tuple[Input, ...]:
    """Return the inputs after the first, in the order of `Images`."""
    names = [*parameters.given.single, *map(keyframe_name, parameters.keyframes)]
    return tuple(
        Input(
            name=name,
            key=input_key(job_id, name),
            sha256=image.sha256,
            width=image.width,
            height=image.height,
        )
        for name, image in zip(names, images, strict=True)
    )
