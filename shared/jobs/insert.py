"""The rows of a new job, or the job that its Idempotency-Key has made before."""

from typing import TypeVar

from sqlalchemy import Connection

from shared.errors import IdempotencyConflict
from shared.jobs import sql
from shared.jobs.batch import Batch, NewBatch
from shared.jobs.job import Job
from shared.jobs.limits import Limits, refusal
from shared.jobs.new_job import NewJob

Made = TypeVar("Made", Job, Batch)


def insert_job(connection: Connection, new: NewJob, limits: Limits) -> Job | None:
    """Return the job, now queued with its inputs; None if the key or a limit forbids it."""
    values = new.values(limits.max_queued) | {
        "max_running": limits.max_running,
        "daily_seconds": limits.daily_seconds,
        "paid_micros": limits.paid_micros,
    }
    row = connection.execute(sql.SUBMIT, values).mappings().first()
    if row is None:
        return None
    job = Job.from_row(row)
    inputs = [{**each.model_dump(mode="json"), "job_id": job.id} for each in new.inputs]
    connection.execute(sql.ADD_INPUT, inputs)
    return job


def replay_or_refuse(connection: Connection, new: NewJob, limits: Limits) -> Job:
    """Return the job that the key made before.

    Raises:
        QueueFull, QuotaExceeded: the key made none, and a limit leaves no place for this one.
        IdempotencyConflict: the key made a job for another request.
    """
    values = {"owner_id": new.owner_id, "key": new.idempotency_key}
    row = connection.execute(sql.BY_KEY, values).mappings().first()
    if row is None:
        raise refusal(connection, new, limits)
    return same_request(Job.from_row(row), new.idempotency_fingerprint)


def replayed_batch(connection: Connection, new: NewBatch) -> Batch:
    """Return the batch that the key made before.

    Raises:
        IdempotencyConflict: the key made a batch for another request.
    """
    values = {"owner_id": new.owner_id, "key": new.idempotency_key}
    row = connection.execute(sql.BATCH_BY_KEY, values).mappings().one()
    return same_request(Batch.from_row(row), new.idempotency_fingerprint)


def same_request(made: Made, fingerprint: str | None) -> Made:
    """Return what a repeated Idempotency-Key has made.

    Raises:
        IdempotencyConflict: the key came with another body.
    """
    if made.idempotency_fingerprint != fingerprint:
        raise IdempotencyConflict(
            "this Idempotency-Key was used for another request; send a new key",
            param="Idempotency-Key",
        )
    return made
