"""Which files a job has, or why it has none."""

from shared.errors import Gone, JobNotReady, JobTerminal, NotFound
from shared.jobs.job import Artifact, Job, Variant
from shared.lifecycle import Status


def check_kept(job: Job) -> None:
    """Raise Gone if a job's files have expired."""
    if job.expired_at is not None:
        raise Gone("the job's files have expired; submit a new job to make the clip again")


def finished_file(job: Job, variant: Variant) -> Artifact:
    """Return a finished job's file as it is stored.

    Raises:
        NotFound: the job was not asked for such a file.
        JobNotReady, JobTerminal: there is no result yet, or there will be no result.
        Gone: the files have expired.
    """
    check_kept(job)
    return _artifact(job, variant)


def check_previewed(job: Job) -> None:
    """Raise if a job has no preview: it has ended, or has shown none yet.

    Raises:
        Gone, JobNotReady: by the job's status.
    """
    if job.is_terminal:
        raise Gone("a job that has ended has no preview; the job lists its files")
    if job.status is not Status.RUNNING or job.preview_step is None:
        raise no_preview_yet()


def no_preview_yet() -> JobNotReady:
    return JobNotReady(
        "there is no preview now: if the job's model makes previews, one comes after some steps"
        " and is kept for minutes; the job's preview_url says when"
    )


def _artifact(job: Job, variant: Variant) -> Artifact:
    if job.result is None:
        if job.is_terminal:
            how = "was canceled" if job.status is Status.CANCELED else "failed"
            raise JobTerminal(f"the job {how}; it has no {variant}")
        raise JobNotReady(f"the job is {job.status}; its {variant} comes when it has succeeded")
    artifact = job.result.artifacts.get(variant)
    if artifact is None:
        raise NotFound(f"this job has no {variant}; a new job makes one with outputs={variant}")
    return artifact
