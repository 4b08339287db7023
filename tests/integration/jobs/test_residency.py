"""Which job a worker claims if its card has a model: a swap has to be worth its minutes."""

import contextlib
from collections.abc import Iterator
from datetime import timedelta
from uuid import uuid4

import pytest

from bench.noop import NoopEngine
from shared.jobs.job import Job, Priority
from shared.jobs.pauses import Pauses
from shared.jobs.residency import PATIENCE, Residency
from tests.support.factory import JobFixture
from tests.support.stack import Stack

LONG = PATIENCE + timedelta(seconds=1)
SERVED = ("resident", "other", "third", "cardless")
OTHERS = ("other", "third")


@pytest.fixture
def job_fixture(stack: Stack) -> Iterator[JobFixture]:
    with contextlib.closing(JobFixture(stack.settings())) as desk:
        yield desk


def queue(
    desk: JobFixture, engine: str, *, waited: float = 0, priority: Priority = Priority.NORMAL
) -> Job:
    """Queue a job of a new owner, which has already waited for this many seconds."""
    spec = NoopEngine.spec.model_copy(update={"name": engine})
    job = desk.submit(spec=spec, owner_id=uuid4(), priority=priority)
    desk.run(
        "UPDATE jobs SET due_at = clock_timestamp() - :waited * interval '1 s',"
        " claim_at = claim_at - :waited * interval '1 s' WHERE id = :id",
        waited=waited,
        id=job.id,
    )
    return job


def taken(desk: JobFixture, lasting: timedelta | None = LONG) -> str | None:
    """Return the engine of the claimed job, if a model has been on the card for `lasting`."""
    residency = None if lasting is None else Residency("resident", lasting, OTHERS)
    job = desk.jobs.claim(SERVED, worker="w#1", residency=residency)
    return None if job is None else job.engine


def test_the_model_on_the_card_goes_on_though_another_ones_job_came_first(
    job_fixture: JobFixture,
) -> None:
    queue(job_fixture, "other", waited=30)
    queue(job_fixture, "resident")

    assert [taken(job_fixture) for _ in range(3)] == ["resident", "other", None]


def test_without_a_model_on_the_card_the_turn_decides(job_fixture: JobFixture) -> None:
    queue(job_fixture, "other", waited=30)
    queue(job_fixture, "resident")

    assert taken(job_fixture, lasting=None) == "other"


def test_a_job_that_waited_long_for_another_model_is_taken_next(job_fixture: JobFixture) -> None:
    queue(job_fixture, "resident", waited=300)
    queue(job_fixture, "other", waited=LONG.total_seconds())

    assert [taken(job_fixture) for _ in range(2)] == ["other", "resident"]


def test_of_two_that_waited_long_the_earlier_turn_is_first(job_fixture: JobFixture) -> None:
    queue(job_fixture, "third", waited=100)
    queue(job_fixture, "other", waited=200)

    assert [taken(job_fixture) for _ in range(2)] == ["other", "third"]


def test_a_model_that_came_just_now_stays_a_while(job_fixture: JobFixture) -> None:
    """Otherwise two crowded queues would swap models with every job."""
    queue(job_fixture, "other", waited=300)
    queue(job_fixture, "resident", waited=100)

    assert taken(job_fixture, lasting=PATIENCE / 2) == "resident"


def test_a_model_nobody_asks_for_makes_room_at_once(job_fixture: JobFixture) -> None:
    queue(job_fixture, "other")

    assert taken(job_fixture, lasting=timedelta(0)) == "other"


def test_a_resident_model_that_is_paused_holds_nobody_back(job_fixture: JobFixture) -> None:
    queue(job_fixture, "resident")
    queue(job_fixture, "other")
    Pauses(job_fixture.db).pause("resident", reason=None)

    assert [taken(job_fixture) for _ in range(2)] == ["other", None]


@pytest.mark.parametrize(("waited", "first"), [(30.0, "cardless"), (0.0, "resident")])
def test_an_engine_without_a_card_keeps_its_turn(
    job_fixture: JobFixture, waited: float, first: str
) -> None:
    queue(job_fixture, "resident", waited=15)
    queue(job_fixture, "cardless", waited=waited)

    assert taken(job_fixture) == first
