"""How a job that did not succeed goes on: handed back, tried again, failed, or let go."""

from datetime import timedelta
from typing import Final

import structlog

from shared.errors import (
    AppError,
    DatabaseUnavailable,
    Drained,
    LeaseLost,
    RenderFailed,
    StorageFailed,
    StorageUnavailable,
    Unforeseen,
)
from shared.job import Job, output_prefix
from shared.jobs import Jobs
from shared.storage import Storage
from worker.lease import Lease

FIRST_BACKOFF: Final = timedelta(seconds=5)
LONGEST_BACKOFF: Final = timedelta(minutes=5)

_log = structlog.get_logger(__name__)


def settle(
    jobs: Jobs, storage: Storage, lease: Lease, error: Exception, *, max_attempts: int
) -> None:
    """Give the job the transition its error asks for.

    A database that does not answer ends this quietly: the lease runs out and the keeper acts.
    """
    try:
        _act(jobs, storage, lease, error, max_attempts)
    except LeaseLost:
        _let_go(storage, lease.job)
    except DatabaseUnavailable:
        _log.error("job_not_settled", code=getattr(error, "code", type(error).__name__))


def backoff(failures: int) -> timedelta:
    """Return how long a job waits before it is tried again after its n-th failure."""
    seconds = FIRST_BACKOFF.total_seconds() * 2.0 ** max(0, failures - 1)
    return min(LONGEST_BACKOFF, timedelta(seconds=seconds))


def _act(jobs: Jobs, storage: Storage, lease: Lease, error: Exception, max_attempts: int) -> None:
    if isinstance(error, LeaseLost):
        _let_go(storage, lease.job)
        return
    if isinstance(error, Drained):
        jobs.hand_back(lease.claim)
        _log.info("job_handed_back")
        return
    failure = _as_failure(error)
    failures = lease.job.failures + 1
    if failure.retryable and failures < max_attempts:
        wait = backoff(failures)
        jobs.retry(lease.claim, failure, backoff=wait)
        _log.warning("job_retried", code=failure.code, backoff_seconds=wait.total_seconds())
        return
    jobs.fail(lease.claim, failure, retryable=failure.retryable, metrics={})
    _log.error("job_failed", code=failure.code, reason=failure.message)


def _as_failure(error: Exception) -> RenderFailed:
    if isinstance(error, RenderFailed):
        return error
    if isinstance(error, StorageUnavailable):
        return StorageFailed(error.message)
    if isinstance(error, AppError):
        return Unforeseen(error.message)
    _log.error("render_crashed", exc_info=error)
    return Unforeseen("something unforeseen went wrong while rendering; see the worker's log")


def _let_go(storage: Storage, job: Job) -> None:
    """Throw away what this attempt stored: the job is somebody else's now."""
    _log.warning("lease_lost")
    try:
        storage.delete_prefix(f"{output_prefix(job.id)}{job.attempt}.")
    except StorageUnavailable:
        _log.warning("leftovers_kept_for_the_sweep")
