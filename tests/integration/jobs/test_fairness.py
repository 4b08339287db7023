"""Whose job starts next: turns between owners, held while one has a thousand jobs waiting."""

import contextlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID, uuid4

import pytest

from bench.noop import NoopEngine
from shared.engines.registry import Fleet
from shared.jobs.job import Artifact, Job, Priority, Result, Variant
from shared.jobs.transitions import Claim
from tests.support.factory import Desk
from tests.support.stack import Stack

RESULT = Result(
    ai_generated=False,
    artifacts={Variant.VIDEO: Artifact(key="k", content_type="video/mp4", bytes=1, sha256="0")},
)
FLOOD = 1000
AGE = "UPDATE jobs SET claim_at = claim_at - :age * interval '1 minute'"


@pytest.fixture
def desk(stack: Stack) -> Iterator[Desk]:
    with contextlib.closing(Desk(stack.settings())) as desk:
        yield desk


def flood(desk: Desk, owner: UUID, count: int, **fields: Any) -> None:
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: desk.submit(owner_id=owner, **fields), range(count)))


def start(desk: Desk, engine: str = "noop") -> Job:
    job = desk.jobs.claim([engine], worker="w#1")
    assert job is not None
    return job


def end(desk: Desk, job: Job) -> None:
    desk.jobs.complete(Claim(job.id, job.attempt), RESULT, {})


def render(desk: Desk, count: int) -> list[UUID]:
    """Have one worker render so many jobs; return their owners in order."""
    owners = []
    for _ in range(count):
        job = start(desk)
        end(desk, job)
        owners.append(job.owner_id)
    return owners


def renders_before(desk: Desk, newcomer: Job) -> int:
    """Return how many jobs start before this one, with one worker."""
    for count in range(FLOOD):
        job = start(desk)
        end(desk, job)
        if job.id == newcomer.id:
            return count
    raise AssertionError("it never started")


@pytest.mark.parametrize(("rendered", "minutes"), [(0, 0), (1, 3), (40, 90), (40, 3000)])
def test_a_crowd_that_came_at_once_delays_a_newcomer_by_one_render_at_most(
    desk: Desk, rendered: int, minutes: int
) -> None:
    """However long it has waited: a night without a worker, or slow renders."""
    flood(desk, uuid4(), 80)
    render(desk, rendered)
    desk.run(AGE, age=minutes)
    assert renders_before(desk, desk.submit(owner_id=uuid4())) <= 1


def test_a_thousand_jobs_sent_over_hours_delay_a_newcomer_by_one_render_at_most(
    desk: Desk,
) -> None:
    owner = uuid4()
    for _ in range(20):
        flood(desk, owner, FLOOD // 20)
        desk.run(AGE, age=15)
        render(desk, 1)
    running = start(desk)
    newcomer = desk.submit(owner_id=uuid4())
    end(desk, running)
    assert renders_before(desk, newcomer) <= 1


def test_three_owners_take_turns_however_much_each_has_sent(desk: Desk) -> None:
    many, some, few = uuid4(), uuid4(), uuid4()
    flood(desk, many, 60)
    render(desk, 5)
    flood(desk, some, 20)
    render(desk, 10)
    flood(desk, few, 5)
    owners = render(desk, 15)
    assert {owner: owners.count(owner) for owner in (many, some, few)} == {
        many: 5,
        some: 5,
        few: 5,
    }


def test_owners_who_send_one_by_one_do_not_keep_a_thousand_from_their_turn(desk: Desk) -> None:
    """Two of them, one always running while the other's next arrives."""
    many, one, two = uuid4(), uuid4(), uuid4()
    flood(desk, many, 60)
    running = start(desk)
    started = []
    for owner in (one, two):
        desk.submit(owner_id=owner)
    for _ in range(30):
        end(desk, running)
        if running.owner_id != many:
            desk.submit(owner_id=running.owner_id)
        running = start(desk)
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
        # Ten minutes of priority are five turns of two.
        (Priority.HIGH, Priority.NORMAL, 6),
        (Priority.NORMAL, Priority.LOW, 6),
    ],
)
def test_priority_moves_a_newcomer_by_five_turns(
    desk: Desk, theirs: Priority, mine: Priority, most: int
) -> None:
    flood(desk, uuid4(), 30, priority=theirs)
    render(desk, 12)
    assert renders_before(desk, desk.submit(owner_id=uuid4(), priority=mine)) <= most


def test_a_flood_of_one_model_delays_a_newcomer_of_another_on_the_same_worker(
    desk: Desk,
) -> None:
    other = NoopEngine.spec.model_copy(update={"name": "other"})
    desk.run(
        "INSERT INTO workers (name, host, pid, device, engines, state)"
        " VALUES ('w', 'h', 1, 'cpu', '{noop,other}', 'ready')"
    )
    Fleet(desk.db).offer([NoopEngine.spec, other])
    many = uuid4()
    flood(desk, many, 40)
    render(desk, 20)
    flood(desk, many, 40, spec=other)
    desk.run(AGE, age=200)
    newcomer = desk.submit(owner_id=uuid4(), spec=other)
    before = 0
    while (job := desk.jobs.claim(["noop", "other"], worker="w#1")) and job.id != newcomer.id:
        before += 1
    assert before <= 1


def test_who_had_a_thousand_rendered_is_no_worse_off_on_the_next_day(desk: Desk) -> None:
    earlier, flooder = uuid4(), uuid4()
    flood(desk, earlier, 40)
    render(desk, 40)
    running = desk.submit(owner_id=flooder)
    start(desk)
    flood(desk, flooder, 30)
    returned = desk.submit(owner_id=earlier)
    end(desk, desk.get(running))
    assert renders_before(desk, returned) <= 2
