"""A new job like an earlier one, with its own copies of the inputs."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any, Final
from uuid import UUID

from api.auth.caller import Caller
from api.monitoring.disk_space import check_disk_space
from api.ports import Ports
from api.submit.allowed import choose_model
from api.submit.queue_job import Store, Submitted, queue_job
from api.submit.settle import price_micros, settle
from api.submit.warnings import warnings_for
from shared.engines.parameters import RenderParameters, RequestedParameters
from shared.engines.registry import OfferedEngine
from shared.errors import InvalidRequest
from shared.ids import new_id
from shared.jobs.create import Metadata
from shared.jobs.files import check_kept
from shared.jobs.inputs import Input
from shared.jobs.insert import same_request
from shared.jobs.job import Job, Priority
from shared.jobs.new_job import NewJob
from shared.jobs.storage_keys import FIRST, input_key
from shared.webhooks.headers import HeaderSeal

SIZE: Final = frozenset({"resolution", "width", "height"})
REPLACES: Final[dict[str, frozenset[str]]] = {
    **dict.fromkeys(SIZE, SIZE),
    "seconds": frozenset({"num_frames"}),
    "quality": frozenset({"num_inference_steps"}),
}
"""The fields of the earlier job that a changed field makes invalid, beside itself."""


class RetryJob(RequestedParameters):
    """The changes to the earlier job; null takes the model's default."""

    priority: Priority | None = None
    metadata: Metadata | None = None


@dataclass(frozen=True, kw_only=True)
class _Order:
    """A retry with everything decided except the new job's values."""

    earlier: Job
    sealed_headers: str | None
    inputs: Sequence[Input]
    offer: OfferedEngine
    changes: RetryJob
    caller: Caller
    key: str | None
    fingerprint: str
    request_id: str


async def retry(
    ports: Ports,
    caller: Caller,
    job_id: UUID,
    changes: RetryJob,
    *,
    key: str | None,
    request_id: str,
) -> Submitted:
    """Queue a new job like an earlier one: same seed and values, except the changes.

    Raises:
        NotFound: the owner has no such job.
        Gone: its inputs have expired.
        InvalidRequest, TooLargeForGpu, QueueFull, Unavailable: as `submit`.
    """
    fingerprint = _fingerprint(job_id, changes)

    def look_up() -> _Order | Job:
        made = None if key is None else ports.queries.by_key(key, owner_id=caller.owner_id)
        if made is not None:
            return same_request(made, fingerprint)
        earlier = ports.queries.get(job_id, owner_id=caller.owner_id)
        check_kept(earlier)
        offer = choose_model(ports.registry, caller, earlier.engine)
        check_disk_space(offer, ports.settings)
        return _Order(
            earlier=earlier,
            sealed_headers=ports.queries.sealed_headers(earlier),
            inputs=ports.queries.inputs(earlier),
            offer=offer,
            changes=changes,
            caller=caller,
            key=key,
            fingerprint=fingerprint,
            request_id=request_id,
        )

    found = await ports.pools.database.run(look_up, owner_id=caller.owner_id)
    if isinstance(found, Job):
        return Submitted(found, is_replay=True)
    accept = partial(_accept, ports, found)
    return await ports.pools.storing.run(accept, owner_id=caller.owner_id)


def asked_again(parameters: RenderParameters, changes: RetryJob) -> RequestedParameters:
    """Return the request that gives these values again, except the changes."""
    told = changes.model_fields_set
    void = told.union(*(REPLACES.get(name, frozenset()) for name in told))
    settled = parameters.model_dump(include=set(RequestedParameters.model_fields))
    if parameters.resolution is not None:  # The sides are the result of that field.
        void = void | {"width", "height"}
    kept = {name: value for name, value in settled.items() if name not in void}
    anew = changes.model_dump(
        exclude_unset=True, exclude_none=True, exclude={"priority", "metadata"}
    )
    return RequestedParameters.model_validate(kept | anew)


def _fingerprint(job_id: UUID, changes: RetryJob) -> str:
    said = changes.model_dump(mode="json", exclude_unset=True)
    body = f"retry {job_id} {json.dumps(said, sort_keys=True)}"
    return hashlib.sha256(body.encode()).hexdigest()


def _accept(ports: Ports, order: _Order) -> Submitted:
    new = _new_job(order, ports)
    by_name = {given.name: given for given in order.inputs}
    copies = [_copy(by_name[given.name].key) for given in new.inputs]
    max_queued = order.caller.max_queued or ports.settings.max_queued_per_key
    daily_seconds = order.caller.daily_seconds
    return queue_job(ports, new, copies, max_queued=max_queued, daily_seconds=daily_seconds)


def _copy(key: str) -> Store:
    return lambda storage, to: storage.copy(key, to)


def _new_job(order: _Order, ports: Ports) -> NewJob:
    earlier, changes, spec = order.earlier, order.changes, order.offer.spec
    old = earlier.parameters
    parameters, gpu_bytes = settle(
        order.offer,
        asked_again(old, changes),
        old.given,
        image_width=earlier.image_width,
        image_height=earlier.image_height,
    )
    job_id = new_id()
    ends = earlier.queue_deadline
    values: dict[str, Any] = {
        name: getattr(earlier, name)
        for name in ("owner_id", "image_sha256", "image_width", "image_height", "outputs")
    }
    return NewJob(
        **values,
        id=job_id,
        engine=spec.name,
        engine_revision=spec.revision,
        parameters=parameters,
        more_inputs=[
            given.model_copy(update={"key": input_key(job_id, given.name)})
            for given in order.inputs
            if given.name != FIRST
        ],
        needs=parameters.needs,
        gpu_bytes=gpu_bytes,
        price_micros=price_micros(spec, parameters),
        source="api",
        retain=min(ports.settings.retain, timedelta(seconds=earlier.retain_seconds)),
        priority=changes.priority or earlier.priority,
        request_id=order.request_id,
        idempotency_key=order.key,
        idempotency_fingerprint=order.fingerprint,
        webhook_url=earlier.webhook_url,
        webhook_event_types=earlier.webhook_event_types,
        webhook_headers=_sealed_anew(order, ports.header_seal, job_id),
        metadata=earlier.metadata if changes.metadata is None else changes.metadata,
        warnings=warnings_for(order.offer, changes, parameters),
        queue_ttl=None if ends is None else ends - earlier.created_at,
        parent_id=earlier.id,
    )


def _sealed_anew(order: _Order, seal: HeaderSeal, job_id: UUID) -> str | None:
    """Return the earlier job's headers, sealed for the new one.

    Raises:
        InvalidRequest: the settings no longer name the secret that sealed them.
    """
    if order.sealed_headers is None:
        return None
    headers = seal.open(order.sealed_headers, of=order.earlier.id)
    if headers is None:
        raise InvalidRequest(
            "the headers of this job's webhook were sealed with a secret that is gone; send a new"
            " job with them"
        )
    return seal.seal(headers, of=job_id)
