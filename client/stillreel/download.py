"""Files of a finished job, saved completely or not at all."""

import hashlib
import os
import secrets
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Final

from stillreel.calls import get_job, job_path
from stillreel.errors import ConnectionFailed, DownloadDamaged, Refused, refusal
from stillreel.job import File, Job
from stillreel.retry import PASSING, RetryPolicy
from stillreel.steps import Pause, Request, Steps, chunk, opened

READ_SECONDS: Final = 60.0


def save(
    job_id: str, path: str | os.PathLike[str], variant: str, policy: RetryPolicy
) -> Steps[Path]:
    """Save a file of a job and return its path; an incomplete file never appears under that name.

    Raises:
        Refused: the job has no such file, or no longer has it.
        DownloadDamaged: each time the received bytes differed from those of the service.
        OSError: the file cannot be written there.
    """
    target = Path(path)
    job = yield from get_job(job_id, policy)
    part = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
    try:
        with part.open("xb") as sink:
            yield from copy(job, sink, variant, policy)
        part.replace(target)
    except BaseException:
        with suppress(OSError):
            part.unlink()
        raise
    return target


def copy(job: Job, sink: BinaryIO, variant: str, policy: RetryPolicy) -> Steps[None]:
    """Write a job's file to a sink; if the connection breaks, start again from its beginning."""
    expected = _expected(job, variant)
    pauses = policy.pauses()
    while True:
        sink.seek(0)
        sink.truncate()
        try:
            digest = yield from _copy_once(job.id, sink, variant)
            if expected is None or digest == expected:
                return
            raise DownloadDamaged(
                f"the {variant} of {job.id} arrived damaged: its sha256 is not the service's"
            )
        except (ConnectionFailed, DownloadDamaged, Refused) as error:
            pause = next(pauses, None)
            if pause is None or (isinstance(error, Refused) and not _passes(error)):
                raise
            asked = error.retry_after_seconds if isinstance(error, Refused) else None
            yield Pause(max(pause, asked or 0.0))


def _copy_once(job_id: str, sink: BinaryIO, variant: str) -> Steps[str]:
    """Return the sha256 of the written bytes."""
    request = Request(
        "GET",
        f"{job_path(job_id)}/content",
        params={"variant": variant},
        headers={"Accept-Encoding": "identity"},
        read_seconds=READ_SECONDS,
    )
    answer = yield from opened(request)
    if answer.status >= 400:
        raise refusal(answer)
    digest = hashlib.sha256()
    while received := (yield from chunk()):
        digest.update(received)
        sink.write(received)
    return digest.hexdigest()


def _passes(error: Refused) -> bool:
    return error.status in PASSING and not error.forbids_retry


def _expected(job: Job, variant: str) -> str | None:
    file = getattr(job.output, variant, None)
    return file.sha256 if isinstance(file, File) else None
