"""The error for a job that ended without a clip."""

from stillreel.errors import JobCanceled, JobFailed, JobNotSucceeded
from stillreel.job import Job


def without_clip(job: Job) -> JobNotSucceeded:
    """Return the error for a job's end."""
    if job.status == "canceled":
        return JobCanceled(f"{job.id} was canceled", job)
    if job.error is None:
        return JobFailed(f"{job.id} {job.status}", job)
    again = "; submitting it again may help" if job.error.retryable else ""
    return JobFailed(f"{job.id} failed ({job.error.code}): {job.error.message}{again}", job)
