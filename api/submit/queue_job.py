"""From a decided job to a queued one: store its inputs, commit it, ring for a worker."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

import structlog

from api.ports import Ports
from shared.crashpoints import crashpoint
from shared.errors import AppError, DatabaseUnavailable
from shared.jobs.job import Job
from shared.jobs.new_job import NewJob
from shared.storage import Storage

Store = Callable[[Storage, str], None]
"""Stores one input under the key it is given."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Submitted:
    """A job, and whether an earlier request with the same key made it."""

    job: Job
    is_replay: bool


def queue_job(
    ports: Ports,
    new: NewJob,
    stores: Sequence[Store],
    *,
    max_queued: int,
    daily_seconds: int | None,
) -> Submitted:
    """Store a job's inputs, commit the job, and ring.

    Args:
        stores: one for each of `new.inputs`, in their order.

    Raises:
        QueueFull, QuotaExceeded, IdempotencyConflict: as `Jobs.submit`; nothing stays stored.
        Unavailable: the database or the storage. The commit may have happened.
    """
    keys = [given.key for given in new.inputs]
    try:
        for store, key in zip(stores, keys, strict=True):
            store(ports.storage, key)
        crashpoint("image_stored")
        job, is_replay = ports.jobs.submit(new, max_queued=max_queued, daily_seconds=daily_seconds)
    except DatabaseUnavailable:
        raise  # The commit may have happened: the inputs may belong to a job.
    except AppError:
        _discard(ports.storage, keys)
        raise
    if is_replay:
        _discard(ports.storage, keys)
        return Submitted(job, is_replay=True)
    crashpoint("submit_after_commit")
    ports.bell.ring(job.engine)
    crashpoint("bell_rung")
    _log.info("job_submitted", job=job.public_id, engine=job.engine, source=job.source)
    return Submitted(job, is_replay=False)


def _discard(storage: Storage, keys: Sequence[str]) -> None:
    """Remove inputs that no job refers to; the sweep finds later what fails here."""
    with suppress(AppError):
        for key in keys:
            storage.delete(key)
