"""What a worker does with its files after it hears that its job has moved on."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.errors import DatabaseUnavailable, Gone
from shared.jobs.job import Artifact, Job, Result, Variant
from shared.jobs.storage_keys import output_key
from shared.jobs.transitions import Claim
from tests.support.factory import JobFixture
from tests.support.stack import Stack
from worker.render.failure import end_failed_attempt
from worker.render.lease import Lease
from worker.supervisor.heartbeat_file import HeartbeatFile


@pytest.fixture
def job_fixture(stack: Stack) -> Iterator[JobFixture]:
    with contextlib.closing(JobFixture(stack.settings())) as desk:
        yield desk


def stored(job_fixture: JobFixture) -> tuple[Job, Result]:
    """Return a claimed job whose clip is stored, and the result that would publish it."""
    job_fixture.submit()
    job = job_fixture.jobs.claim(["noop"], worker="w#1")
    assert job is not None
    key = output_key(job.id, job.attempt, ".mp4")
    job_fixture.storage.put(key, b"mp4", content_type="video/mp4")
    video = Artifact(key=key, content_type="video/mp4", bytes=3, sha256="0")
    return job, Result(ai_generated=False, artifacts={Variant.VIDEO: video})


def give_up_after_silence(job_fixture: JobFixture, job: Job, folder: Path) -> bytes:
    """Settle the job as after a commit without an answer, and return its clip."""
    with contextlib.closing(HeartbeatFile.create(folder / "slot")) as slot:
        silence = DatabaseUnavailable("the database did not answer")
        end_failed_attempt(
            job_fixture.jobs, job_fixture.storage, Lease(job, slot), silence, max_attempts=3
        )
    return job_fixture.storage.get(output_key(job.id, job.attempt, ".mp4"))


def test_a_published_clip_stays_although_its_worker_never_heard_of_it(
    job_fixture: JobFixture, tmp_path: Path
) -> None:
    job, result = stored(job_fixture)
    job_fixture.jobs.complete(Claim(job.id, job.attempt), result, {})
    assert give_up_after_silence(job_fixture, job, tmp_path) == b"mp4"


def test_the_clip_of_a_lost_attempt_is_deleted(job_fixture: JobFixture, tmp_path: Path) -> None:
    job, _ = stored(job_fixture)
    job_fixture.jobs.cancel(job.id, owner_id=job.owner_id)
    with pytest.raises(Gone):
        give_up_after_silence(job_fixture, job, tmp_path)
