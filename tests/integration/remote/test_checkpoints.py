"""A checkpoint counts only while the attempt that writes it owns the job."""

import contextlib
from collections.abc import Iterator
from datetime import timedelta

import pytest

from shared.errors import LeaseLost
from shared.jobs.checkpoints import MOST_BYTES, Checkpoints
from shared.jobs.job import Job
from shared.jobs.transitions import Claim
from shared.lifecycle import Status
from shared.owners import ANONYMOUS
from tests.support.factory import JobFixture
from tests.support.stack import Stack
from worker.keeper.purge import Purger


@pytest.fixture(scope="module")
def one_desk(module_stack: Stack) -> Iterator[JobFixture]:
    with contextlib.closing(JobFixture(module_stack.settings())) as desk:
        yield desk


@pytest.fixture
def desk(one_desk: JobFixture) -> JobFixture:
    one_desk.run("DELETE FROM jobs")
    return one_desk


@pytest.fixture
def rows(desk: JobFixture) -> Checkpoints:
    return Checkpoints(desk.db)


def claimed(desk: JobFixture) -> tuple[Job, Claim]:
    desk.submit()
    job = desk.jobs.claim(["noop"], worker="w")
    assert job is not None
    return job, Claim(job.id, job.attempt)


def test_the_next_attempt_is_given_what_the_last_one_wrote(
    desk: JobFixture, rows: Checkpoints
) -> None:
    job, claim = claimed(desk)
    assert rows.read(job.id, "remote") is None
    rows.write(claim, "remote", {"id": "a"})
    rows.write(claim, "remote", {"id": "b"})
    desk.jobs.hand_back(claim)
    again = desk.jobs.claim(["noop"], worker="w")
    assert again is not None
    assert rows.read(again.id, "remote") == {"id": "b"}


@pytest.mark.parametrize("how", ["hand_back", "lost", "canceled", "newer"])
def test_an_attempt_that_does_not_own_the_job_writes_nothing(
    desk: JobFixture, rows: Checkpoints, how: str
) -> None:
    job, claim = claimed(desk)
    rows.write(claim, "remote", {"id": "kept"})
    if how == "canceled":
        desk.jobs.cancel(job.id, owner_id=ANONYMOUS)
    elif how == "lost":
        desk.run("UPDATE jobs SET lease_until = clock_timestamp() WHERE id = :id", id=job.id)
        desk.jobs.reap(max_attempts=3)
    else:
        desk.jobs.hand_back(claim)
    if how == "newer":
        assert desk.jobs.claim(["noop"], worker="w") is not None
    with pytest.raises(LeaseLost):
        rows.write(claim, "remote", {"id": "late"})
    assert rows.read(job.id, "remote") == {"id": "kept"}


def test_what_was_kept_forgives_the_failures_before_it(
    desk: JobFixture, rows: Checkpoints
) -> None:
    job, claim = claimed(desk)
    desk.run("UPDATE jobs SET failures = 1 WHERE id = :id", id=job.id)
    rows.write(claim, "remote", {})
    assert desk.get(job).failures == 0


def test_what_is_too_large_for_a_checkpoint_is_refused(
    desk: JobFixture, rows: Checkpoints
) -> None:
    _, claim = claimed(desk)
    with pytest.raises(ValueError, match=str(MOST_BYTES)):
        rows.write(claim, "remote", {"id": "x" * MOST_BYTES})


def test_only_what_a_cancel_left_open_has_to_be_ended_once(
    desk: JobFixture, rows: Checkpoints
) -> None:
    job, claim = claimed(desk)
    rows.write(claim, "remote", {"id": "a"}, is_open=True)
    assert job.id not in [each.job_id for each in rows.ended("remote", ["noop"])]
    desk.jobs.cancel(job.id, owner_id=ANONYMOUS)
    assert job.id in [each.job_id for each in rows.ended("remote", ["noop"])]
    assert rows.ended("remote", ["another"]) == []
    before = desk.get(job).version
    rows.close(job.id, "remote", {"ended_elsewhere": {"reached": True}})
    rows.close(job.id, "remote", {"ended_elsewhere": {"reached": False}})
    now = desk.get(job)
    assert (now.status, now.version) == (Status.CANCELED, before + 1)
    assert now.metrics == {"ended_elsewhere": {"reached": True}}
    assert job.id not in [each.job_id for each in rows.ended("remote", ["noop"])]


def test_a_checkpoint_is_purged_with_its_job(
    desk: JobFixture, rows: Checkpoints, module_stack: Stack
) -> None:
    job, claim = claimed(desk)
    rows.write(claim, "remote", {"id": "a"})
    desk.jobs.cancel(job.id, owner_id=ANONYMOUS)
    desk.run(
        "UPDATE jobs SET sweep_at = NULL, finished_at = clock_timestamp() - interval '900 days',"
        " expired_at = clock_timestamp() - interval '900 days' WHERE id = :id",
        id=job.id,
    )
    assert Purger(desk.db, module_stack.settings()).purge() == 1
    assert desk.run("SELECT 1 FROM checkpoints WHERE job_id = :id", id=job.id) == []


def test_a_job_that_is_put_off_waits_in_its_place_uncharged(desk: JobFixture) -> None:
    job, claim = claimed(desk)
    now = desk.jobs.put_off(claim, delay=timedelta(hours=1))
    assert (now.status, now.failures, now.claim_at) == (Status.QUEUED, 0, job.claim_at)
    assert desk.jobs.claim(["noop"], worker="w") is None
    desk.run("UPDATE jobs SET due_at = clock_timestamp() WHERE id = :id", id=job.id)
    again = desk.jobs.claim(["noop"], worker="w")
    assert again is not None
    assert again.id == job.id
