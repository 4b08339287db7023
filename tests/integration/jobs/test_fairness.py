"""The order in which jobs start: owners take turns, even if one has a thousand jobs waiting."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID, uuid4

import pytest

from bench.noop import NoopEngine
from shared.engines.registry import EngineRegistry
from shared.jobs.job import Artifact, Job, Priority, Result, Variant
from shared.jobs.transitions import Claim
from tests.support.factory import JobFixture

RESULT = Result(
    ai_generated=False,
    artifacts={Variant.VIDEO: Artifact(key="k", content_type="video/mp4", bytes=1, sha256="0")},
)
FLOOD = 1000
AGE = "UPDATE jobs SET claim_at = claim_at - :age * interval '1 minute'"


def flood(job_fixture: JobFixture, owner: UUID, count: int, **fields: Any) -> None:
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: job_fixture.submit(owner_id=owner, **fields), range(count)))


def start(job_fixture: JobFixture, engine: str = "noop") -> Job:
    job = job_fixture.jobs.claim([engine], worker="w#1")
    assert job is not None
    return job


def end(job_fixture: JobFixture, job: Job) -> None:
    job_fixture.jobs.complete(Claim(job.id, job.attempt), RESULT, {})


def render(job_fixture: JobFixture, count: int) -> list[UUID]:
    """Have one worker render that many jobs; return their owners in order."""
    owners = []
    for _ in range(count):
        job = start(job_fixture)
        end(job_fixture, job)
        owners.append(job.owner_id)
    return owners


def renders_before(job_fixture: JobFixture, newcomer: Job) -> int:
    """Return how many jobs start before this one, with one worker."""
    for count in range(FLOOD):
        job = start(job_fixture)
        end(job_fixture, job)
        if job.id == newcomer.id:
            return count
    raise AssertionError("it never started")


@pytest.mark.parametrize(("rendered", "minutes"), [(0, 0), (1, 3), (40, 90), (40, 3000)])
def test_a_crowd_that_came_at_once_delays_a_newcomer_by_one_render_at_most(
    job_fixture: JobFixture, rendered: int, minutes: int
) -> None:
    """This holds however long the crowd has waited: a night without a worker, or slow renders."""
    flood(job_fixture, uuid4(), 80)
    render(job_fixture, rendered)
    job_fixture.run(AGE, age=minutes)
    assert renders_before(job_fixture, job_fixture.submit(owner_id=uuid4())) <= 1


@pytest.mark.extended
def test_a_thousand_jobs_sent_over_hours_delay_a_newcomer_by_one_render_at_most(
    job_fixture: JobFixture,
) -> None:
    owner = uuid4()
    for _ in range(20):
        flood(job_fixture, owner, FLOOD // 20)
        job_fixture.run(AGE, age=15)
        render(job_fixture, 1)
    running = start(job_fixture)
    newcomer = job_fixture.submit(owner_id=uuid4())
    end(job_fixture, running)
    assert renders_before(job_fixture, newcomer) <= 1


def test_three_owners_take_turns_however_much_each_has_sent(job_fixture: JobFixture) -> None:
    many, some, few = uuid4(), uuid4(), uuid4()
    flood(job_fixture, many, 60)
    render(job_fixture, 5)
    flood(job_fixture, some, 20)
    render(job_fixture, 10)
    flood(job_fixture, few, 5)
    owners = render(job_fixture, 15)
    assert {owner: owners.count(owner) for owner in (many, some, few)} == {
        many: 5,
        some: 5,
        few: 5,
    }


def test_owners_who_send_one_by_one_do_not_keep_a_thousand_from_their_turn(
    job_fixture: JobFixture,
) -> None:
    """There are two such owners: while one's job runs, the other's next job arrives."""
    many, one, two = uuid4(), uuid4(), uuid4()
    flood(job_fixture, many, 60)
    running = start(job_fixture)
    started = []
    for owner in (one, two):
        job_fixture.submit(owner_id=owner)
    for _ in range(30):
        end(job_fixture, running)
        if running.owner_id != many:
            job_fixture.submit(owner_id=running.owner_id)
        running = start(job_fixture)
        started.append(running.owner_id)
    assert min(started.count(owner) for owner in (many, one, two)) >= 9


@pytest.mark.parametrize(
    ("theirs", "mine", "most"),
    [
        (Priority.NORMAL, Priority.NORMAL, 1),
        (Priority.NORMAL, Priority.HIGH, 1),
        (Priority.HIGH, Priority.HIGH, 1),
        (Priority.LOW, Priority.LOW, 1),
        (Priority.LOW, Priority.NORMAL, 1),
        # A priority of ten minutes equals five turns of two minutes.
        (Priority.HIGH, Priority.NORMAL, 6),
        (Priority.NORMAL, Priority.LOW, 6),
    ],
)
def test_priority_moves_a_newcomer_by_five_turns(
    job_fixture: JobFixture, theirs: Priority, mine: Priority, most: int
) -> None:
    flood(job_fixture, uuid4(), 30, priority=theirs)
    render(job_fixture, 12)
    assert renders_before(job_fixture, job_fixture.submit(owner_id=uuid4(), priority=mine)) <= most


def test_a_flood_of_one_model_delays_a_newcomer_of_another_on_the_same_worker(
    job_fixture: JobFixture,
) -> None:
    other = NoopEngine.spec.model_copy(update={"name": "other"})
    job_fixture.run(
        "INSERT INTO workers (name, host, pid, device, engines, state)"
        " VALUES ('w', 'h', 1, 'cpu', '{noop,other}', 'ready')"
    )
    EngineRegistry(job_fixture.db).offer([NoopEngine.spec, other])
    many = uuid4()
    flood(job_fixture, many, 40)
    render(job_fixture, 20)
    flood(job_fixture, many, 40, spec=other)
    job_fixture.run(AGE, age=200)
    newcomer = job_fixture.submit(owner_id=uuid4(), spec=other)
    before = 0
    while (
        job := job_fixture.jobs.claim(["noop", "other"], worker="w#1")
    ) and job.id != newcomer.id:
        before += 1
    assert before <= 1


def test_who_had_a_thousand_rendered_is_no_worse_off_on_the_next_day(
    job_fixture: JobFixture,
) -> None:
    earlier, flooder = uuid4(), uuid4()
    flood(job_fixture, earlier, 40)
    render(job_fixture, 40)
    running = job_fixture.submit(owner_id=flooder)
    start(job_fixture)
    flood(job_fixture, flooder, 30)
    returned = job_fixture.submit(owner_id=earlier)
    end(job_fixture, job_fixture.get(running))
    assert renders_before(job_fixture, returned) <= 2
