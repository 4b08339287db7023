"""The only place that writes a job's status: one guarded statement per transition."""

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final, Protocol
from uuid import UUID

from sqlalchemy import Connection, TextClause

from shared.crashpoints import crashpoint
from shared.db import Database
from shared.errors import AppError, JobTerminal, LeaseLost
from shared.jobs import sql
from shared.jobs.batch import Batch, NewBatch, no_such_batch
from shared.jobs.consequences import write_consequences
from shared.jobs.insert import insert_job, replay_or_refuse, replayed_batch
from shared.jobs.job import Job, Result, no_such_job
from shared.jobs.limits import Limits, refusal
from shared.jobs.new_job import NewJob
from shared.jobs.residency import Residency, claim_values
from shared.jobs.take import OneTooMany, take_next
from shared.lifecycle import Stage, Status
from shared.webhooks.enqueue import ensure_default_endpoint

SWEEP_GRACE: Final = timedelta(seconds=60)
"""Longer than any upload that is still under way after its lease ended."""

_PAST: Final = {Status.SUCCEEDED: "succeeded", Status.FAILED: "failed"}


class Announcer(Protocol):
    def publish_change(self, job_id: UUID, version: int, owner_id: UUID) -> None:
        """Announce to waiters that a job has changed; it may be lost, and must not block."""


@dataclass(frozen=True)
class Claim:
    """The right to work on a job: `attempt` is the fence that every write names."""

    job_id: UUID
    attempt: int


@dataclass(frozen=True, kw_only=True)
class Progress:
    """A running job's progress, for clients; `eta_seconds` is the whole job's remaining time.

    `preview_step` is the step of the image in the preview store.
    """

    stage: Stage
    step: int | None = None
    total_steps: int | None = None
    eta_seconds: float | None = None
    preview_step: int | None = None


class Jobs:
    """The transitions of the lifecycle, each in one transaction of its own.

    After the commit each announces the new version. A method that names a claim raises LeaseLost
    when a newer attempt, a cancel or the keeper has moved the job on.
    """

    def __init__(
        self,
        db: Database,
        announcer: Announcer,
        *,
        lease: timedelta,
        first_try: timedelta,
        max_running: int | None = None,
        paid_micros: int | None = None,
    ) -> None:
        """Open the transitions of one process.

        Args:
            first_try: how long webhooks wait before their first try.
            max_running: the cap of each owner whose key has none of its own.
            paid_micros: what each owner may spend on hosted models in a UTC day, in millionths of
                a dollar; None means no limit.
        """
        self._db = db
        self._announcer = announcer
        self._lease = lease
        self._first_try = first_try
        self._max_running = max_running
        self._paid_micros = paid_micros

    def submit(
        self, new: NewJob, *, max_queued: int, daily_seconds: int | None = None
    ) -> tuple[Job, bool]:
        """Queue a job; return it, and whether the key made it before.

        Args:
            daily_seconds: seconds of clips that the owner may ask for in a UTC day; None means no
                limit.

        Raises:
            QueueFull: the owner has `max_queued` jobs waiting.
            QuotaExceeded: not enough seconds are left today.
            IdempotencyConflict: the key belongs to another request.
        """
        limits = self._limits(max_queued, daily_seconds)
        with self._db.begin() as connection:
            connection.execute(sql.LINE_UP, {"line": sql.SUBMITS, "owner_id": new.owner_id})
            if new.webhook_url is not None:
                ensure_default_endpoint(connection, new.owner_id)
            job = insert_job(connection, new, limits)
            if job is None:
                return replay_or_refuse(connection, new, limits), True
            crashpoint("submit_before_commit")
        self._announcer.publish_change(job.id, job.version, job.owner_id)
        return job, False

    def submit_batch(
        self,
        batch: NewBatch,
        news: Sequence[NewJob],
        *,
        max_queued: int,
        daily_seconds: int | None = None,
    ) -> tuple[Batch, Sequence[Job] | None]:
        """Queue a batch as a whole or not at all; return it and its jobs, None if it is a repeat.

        Raises:
            QueueFull, QuotaExceeded, IdempotencyConflict: as `submit`, for all jobs together.
        """
        limits = self._limits(max_queued, daily_seconds)
        with self._db.begin() as connection:
            connection.execute(sql.LINE_UP, {"line": sql.SUBMITS, "owner_id": batch.owner_id})
            if batch.webhook_url is not None or any(new.webhook_url for new in news):
                ensure_default_endpoint(connection, batch.owner_id)
            values = {**vars(batch), "metadata": json.dumps(dict(batch.metadata))}
            row = connection.execute(sql.SUBMIT_BATCH, values | {"total": len(news)})
            made = row.mappings().first()
            if made is None:
                return replayed_batch(connection, batch), None
            jobs = []
            # By engine, so that days of usage are locked in the same order as by ends.
            for new in sorted(news, key=lambda each: (each.engine, each.batch_position)):
                job = insert_job(connection, new, limits)
                if job is None:
                    raise refusal(connection, new, limits, of_batch=len(news))
                jobs.append(job)
        for job in jobs:
            self._announcer.publish_change(job.id, job.version, job.owner_id)
        return Batch.from_row(made), jobs

    def cancel_batch(self, batch_id: UUID, *, owner_id: UUID) -> Batch:
        """End the jobs of a batch that have not ended; ended jobs stay as they are.

        Raises:
            NotFound: the owner has no such batch.
            JobTerminal: all jobs had ended before the cancel.
        """
        values = {"batch_id": batch_id, "owner_id": owner_id}
        grace = {"grace": self._lease + SWEEP_GRACE}
        with self._db.begin() as connection:
            # The jobs first, as every transition takes its locks; then the batch.
            rows = connection.execute(sql.CANCEL_BATCH, values | grace).mappings().all()
            jobs = [Job.from_row(row) for row in rows]
            write_consequences(connection, jobs, first_try=self._first_try)
            found = connection.execute(sql.BATCH_BY_ID, values).mappings().first()
            if found is None:
                raise no_such_batch()
            if not jobs and found["finished_at"] and not found["canceled_at"]:
                raise JobTerminal("every job of the batch has already ended")
            batch = connection.execute(sql.MARK_BATCH_CANCELED, values).mappings().one()
        for job in jobs:
            self._announcer.publish_change(job.id, job.version, job.owner_id)
        return Batch.from_row(batch)

    def _limits(self, max_queued: int, daily_seconds: int | None) -> Limits:
        return Limits(max_queued, daily_seconds, self._paid_micros, self._max_running)

    def claim(
        self,
        engines: Sequence[str] | Mapping[str, Sequence[str]],
        *,
        worker: str,
        card_bytes: int | None = None,
        residency: Residency | None = None,
    ) -> Job | None:
        """Take the best queued job of these engines, or return None if there is none.

        Args:
            engines: each with the fields that its spec honours, or only their names; a job that
                needs more is left to a worker of a later release.
            card_bytes: the memory of the worker's card; a job that needs more is left to another
                worker.
            residency: the model on that card, whose jobs come first (`SWAP_RANK`).
        """
        honours = engines if isinstance(engines, Mapping) else dict.fromkeys(engines, ())
        values = {
            "engines": list(engines),
            "honours": json.dumps({name: list(fields) for name, fields in honours.items()}),
            "worker": worker,
            "lease": self._lease,
            "card_bytes": card_bytes,
            "max_running": self._max_running,
            **claim_values(residency),
        }
        while True:
            with suppress(OneTooMany):
                return self._claim(values)

    def _claim(self, values: Mapping[str, Any]) -> Job | None:
        with self._db.begin() as connection:
            job = take_next(connection, values)
            if job is None:
                return None
            write_consequences(connection, [job], first_try=self._first_try)
            crashpoint("claim_before_commit")
        self._announcer.publish_change(job.id, job.version, job.owner_id)
        return job

    def beat(self, claim: Claim, progress: Progress) -> None:
        """Renew the lease and show progress."""
        values = {
            "stage": progress.stage,
            "step": progress.step,
            "total_steps": progress.total_steps,
            "eta_seconds": progress.eta_seconds,
            "preview_step": progress.preview_step,
            "lease": self._lease,
        }
        with self._db.autocommit() as connection:
            beaten = connection.execute(sql.BEAT, _fenced(claim, values)).first()
        if beaten is None:
            raise LeaseLost(f"attempt {claim.attempt} no longer owns the job")
        self._announcer.publish_change(claim.job_id, beaten.version, beaten.owner_id)

    def hand_back(self, claim: Claim) -> Job:
        """Queue the job again in its old place, uncharged: the worker is stopping."""
        return self._fenced_transition(sql.HAND_BACK, claim, {})

    def put_off(self, claim: Claim, *, delay: timedelta) -> Job:
        """Queue the job again in its old place, due after `delay`, uncharged."""
        return self._fenced_transition(sql.PUT_OFF, claim, {"delay": delay})

    def hand_back_all(self, *, worker: str) -> list[Job]:
        """Queue again, uncharged, what a worker still held when its drain was cut short."""
        return self._bulk(sql.HAND_BACK_ALL, {"worker": worker})

    def retry(self, claim: Claim, error: AppError, *, backoff: timedelta) -> Job:
        """Queue the job again after `backoff`, and charge a failure."""
        values = {"code": error.code, "message": error.message, "backoff": backoff}
        return self._fenced_transition(sql.RETRY, claim, values)

    def complete(self, claim: Claim, result: Result, metrics: Mapping[str, Any]) -> Job:
        """Publish the result of this attempt."""
        values = {
            "result": result.model_dump_json(),
            "metrics": json.dumps(metrics),
            "grace": self._lease + SWEEP_GRACE,
        }
        return self._fenced_transition(sql.COMPLETE, claim, values)

    def fail(
        self, claim: Claim, error: AppError, *, retryable: bool, metrics: Mapping[str, Any]
    ) -> Job:
        """End the job with an error that its client can read."""
        values = {
            "code": error.code,
            "message": error.message,
            "retryable": retryable,
            "metrics": json.dumps(metrics),
            "grace": self._lease + SWEEP_GRACE,
        }
        return self._fenced_transition(sql.FAIL, claim, values)

    def has_published(self, claim: Claim) -> bool:
        """Say whether the job's result is this attempt's, after an answer was lost."""
        with self._db.autocommit() as connection:
            return bool(connection.execute(sql.PUBLISHED, _fenced(claim, {})).scalar())

    def cancel(self, job_id: UUID, *, owner_id: UUID) -> Job:
        """End a live job for its owner; a canceled job is returned unchanged.

        Raises:
            NotFound: the owner has no such job.
            JobTerminal: it has already succeeded or failed.
        """
        with self._db.begin() as connection:
            job = self._cancel(connection, job_id, owner_id)
            if job is None:
                job = _require(connection, job_id, owner_id)
                if job.status is Status.CANCELED:
                    return job
                raise JobTerminal(f"the job has already {_PAST[job.status]}")
            crashpoint("cancel_before_commit")
        crashpoint("cancel_after_commit")
        self._announcer.publish_change(job.id, job.version, job.owner_id)
        return job

    def delete(self, job_id: UUID, *, owner_id: UUID) -> Job:
        """Cancel the job if it has not ended, and mark it as deleted: it answers 404 from then on.

        Raises:
            NotFound: the owner has no such job.
        """
        values = {"id": job_id, "owner_id": owner_id}
        with self._db.begin() as connection:
            self._cancel(connection, job_id, owner_id)
            row = connection.execute(sql.BURY, values).mappings().first()
            if row is None:
                raise no_such_job()
            job = Job.from_row(row)
        self._announcer.publish_change(job.id, job.version, job.owner_id)
        return job

    def give_up(self, *, worker: str, max_attempts: int) -> list[Job]:
        """Take back at once the jobs of a worker that is known to be dead."""
        return self._lose(sql.HELD_BY, {"worker": worker}, max_attempts)

    def give_up_earlier(self, *, worker: str, max_attempts: int) -> list[Job]:
        """Take back the jobs of earlier children in this one's place (`place#incarnation`)."""
        values = {"worker": worker, "place": worker.partition("#")[0]}
        return self._lose(sql.HELD_BY_EARLIER, values, max_attempts)

    def reap(self, *, max_attempts: int) -> list[Job]:
        """Take back jobs whose lease ran out: queue them again, or fail them as worker_lost."""
        return self._lose(sql.LATE, {}, max_attempts)

    def time_out(self) -> list[Job]:
        """Fail the queued jobs that waited past their queue_ttl_seconds."""
        return self._bulk(sql.TIME_OUT, {"grace": self._lease + SWEEP_GRACE})

    def _lose(self, where: str, values: dict[str, Any], max_attempts: int) -> list[Job]:
        values = {**values, "max_attempts": max_attempts, "grace": self._lease + SWEEP_GRACE}
        lost = self._bulk(sql.lose(where), values)
        return lost + self._bulk(sql.fail_lost(where), values)

    def _bulk(self, statement: TextClause, values: Mapping[str, Any]) -> list[Job]:
        with self._db.begin() as connection:
            rows = connection.execute(statement, values).mappings().all()
            jobs = [Job.from_row(row) for row in rows]
            write_consequences(connection, jobs, first_try=self._first_try)
        for job in jobs:
            self._announcer.publish_change(job.id, job.version, job.owner_id)
        return jobs

    def _fenced_transition(
        self, statement: TextClause, claim: Claim, values: Mapping[str, Any]
    ) -> Job:
        with self._db.begin() as connection:
            row = connection.execute(statement, _fenced(claim, values)).mappings().first()
            if row is None:
                raise LeaseLost(f"attempt {claim.attempt} no longer owns the job")
            job = Job.from_row(row)
            write_consequences(connection, [job], first_try=self._first_try)
            if statement is sql.COMPLETE:
                crashpoint("complete_before_commit")
        self._announcer.publish_change(job.id, job.version, job.owner_id)
        return job

    def _cancel(self, connection: Connection, job_id: UUID, owner_id: UUID) -> Job | None:
        values = {"id": job_id, "owner_id": owner_id, "grace": self._lease + SWEEP_GRACE}
        row = connection.execute(sql.CANCEL, values).mappings().first()
        if row is None:
            return None
        job = Job.from_row(row)
        write_consequences(connection, [job], first_try=self._first_try)
        return job


def _fenced(claim: Claim, values: Mapping[str, Any]) -> dict[str, Any]:
    return {"id": claim.job_id, "attempt": claim.attempt, **values}


def _require(connection: Connection, job_id: UUID, owner_id: UUID) -> Job:
    row = connection.execute(sql.BY_ID, {"id": job_id, "owner_id": owner_id}).mappings().first()
    if row is None:
        raise no_such_job()
    return Job.from_row(row)
