"""What happens to a job that did not succeed: handed back, tried again, failed, or dropped."""

from datetime import timedelta
from typing import Final

import structlog

from shared.crashpoints import crashpoint
from shared.errors import (
    AppError,
    DatabaseUnavailable,
    Drained,
    LeaseLost,
    PutOff,
    RenderFailed,
    StorageUnavailable,
    Unforeseen,
    Unreachable,
)
from shared.jobs.storage_keys import output_prefix
from shared.jobs.transitions import Jobs
from shared.storage import Storage
from worker.render.lease import Lease

FIRST_BACKOFF: Final = timedelta(seconds=5)
LONGEST_BACKOFF: Final = timedelta(minutes=5)
LONGEST_PUT_OFF: Final = timedelta(days=1)
"""The greatest age of a job that waits because its server takes no jobs."""

_log = structlog.get_logger(__name__)


def end_failed_attempt(
    jobs: Jobs, storage: Storage, lease: Lease, error: Exception, *, max_attempts: int
) -> None:
    """Apply the transition for the job's error.

    If the database does not answer, this returns without an error: the lease runs out and the
    keeper acts.
    """
    crashpoint("before_settle")
    try:
        if isinstance(error, LeaseLost) or not _act(jobs, lease, error, max_attempts):
            _let_go(jobs, storage, lease)
    except DatabaseUnavailable:
        _log.error("job_not_settled", code=getattr(error, "code", type(error).__name__))
    crashpoint("after_settle")


def backoff(failures: int) -> timedelta:
    """Return how long a job waits before it is tried again after its n-th failure."""
    seconds = FIRST_BACKOFF.total_seconds() * 2.0 ** max(0, failures - 1)
    return min(LONGEST_BACKOFF, timedelta(seconds=seconds))


def _act(jobs: Jobs, lease: Lease, error: Exception, max_attempts: int) -> bool:
    """Apply the transition; return False if the job is no longer this attempt's."""
    try:
        _end(jobs, lease, error, max_attempts)
    except LeaseLost:
        return False
    return True


def _end(jobs: Jobs, lease: Lease, error: Exception, max_attempts: int) -> None:
    if isinstance(error, PutOff):
        _put_off(jobs, lease, error)
        return
    failure = None if isinstance(error, Drained) else _as_failure(error)
    # While the worker stops, its servers and programs may be stopping too, so the job is not at
    # fault.
    if failure is None or (failure.retryable and lease.is_draining):
        jobs.hand_back(lease.claim)
        _log.info("job_handed_back", code=getattr(error, "code", type(error).__name__))
        return
    failures = lease.failures + 1
    if failure.retryable and failures < max_attempts:
        wait = backoff(failures)
        jobs.retry(lease.claim, failure, backoff=wait)
        _log.warning("job_retried", code=failure.code, backoff_seconds=wait.total_seconds())
        return
    jobs.fail(lease.claim, failure, retryable=failure.retryable, metrics={})
    _log.error("job_failed", code=failure.code, reason=failure.message)


def _put_off(jobs: Jobs, lease: Lease, error: PutOff) -> None:
    """Let the job wait in the queue until its server takes jobs again, but not for ever."""
    delay = timedelta(seconds=error.retry_after_seconds or FIRST_BACKOFF.total_seconds())
    waited = (lease.job.started_at or lease.job.created_at) - lease.job.created_at
    if waited > LONGEST_PUT_OFF:
        failure = Unreachable(f"{error.message}; it was tried again for a day")
        jobs.fail(lease.claim, failure, retryable=True, metrics={})
        _log.error("job_failed", code=failure.code, reason=failure.message)
        return
    jobs.put_off(lease.claim, delay=min(delay, LONGEST_BACKOFF))
    _log.warning("job_put_off", reason=error.message, delay_seconds=delay.total_seconds())


def _as_failure(error: Exception) -> RenderFailed:
    if isinstance(error, RenderFailed):
        return error
    if isinstance(error, AppError):
        return Unforeseen(error.message)
    _log.error("render_crashed", exc_info=error)
    return Unforeseen("an unexpected error happened during the render; see the worker's log")


def _let_go(jobs: Jobs, storage: Storage, lease: Lease) -> None:
    """Delete what this attempt stored, because another attempt has the job now.

    But not if it was published after all, by a commit whose answer was lost: then a client may
    already be reading it.
    """
    if jobs.has_published(lease.claim):
        _log.warning("result_already_published")
        return
    _log.warning("lease_lost")
    crashpoint("lease_let_go")
    try:
        storage.delete_prefix(f"{output_prefix(lease.job.id)}{lease.job.attempt}.")
    except StorageUnavailable:
        _log.warning("leftovers_kept_for_the_sweep")
