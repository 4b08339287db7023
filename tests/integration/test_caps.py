"""How many jobs one owner may have running, exactly, and who gets on meanwhile."""

import contextlib
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from uuid import UUID, uuid4

import pytest

from shared.db import Database
from shared.errors import QueueFull
from shared.job import Job
from shared.jobs import Claim, Jobs
from tests.factory import Desk, Silence
from tests.stack import Stack

THREADS = 16


@pytest.fixture
def desk(stack: Stack) -> Iterator[Desk]:
    """Owners may have two jobs running, unless their key says otherwise."""
    with contextlib.closing(Desk(stack.settings(max_running_per_key=2))) as desk:
        yield desk


@pytest.fixture
def crowded(desk: Desk) -> Iterator[Desk]:
    """The same with a connection for each of many threads."""
    db = Database(
        desk.settings.database_url.get_secret_value(),
        deadline=timedelta(seconds=30),
        pool_size=THREADS,
    )
    with contextlib.closing(db):
        desk.db.close()
        desk.db = db
        desk.jobs = Jobs(db, Silence(), lease=timedelta(minutes=5), max_running=2)
        yield desk


def key(desk: Desk, *, max_running: int | None = None) -> UUID:
    """Make the key of a new owner."""
    owner = uuid4()
    desk.run(
        "INSERT INTO api_keys (id, name, prefix, key_sha256, max_running)"
        " VALUES (:id, :name, :name, 'x', :max_running)",
        id=owner,
        name=owner.hex,
        max_running=max_running,
    )
    return owner


def start(desk: Desk) -> Job | None:
    return desk.jobs.claim(["noop"], worker="w#1")


def running(desk: Desk) -> Counter[UUID]:
    rows = desk.run("SELECT owner_id FROM jobs WHERE status = 'running'")
    return Counter(row["owner_id"] for row in rows)


def test_an_owner_with_enough_running_waits_and_others_go_on(desk: Desk) -> None:
    crowd, other = uuid4(), uuid4()
    for _ in range(4):
        desk.submit(owner_id=crowd)
    assert [job and job.owner_id for job in (start(desk), start(desk), start(desk))] == [
        crowd,
        crowd,
        None,
    ]
    desk.submit(owner_id=other)
    job = start(desk)
    assert job is not None
    assert job.owner_id == other


def test_the_next_job_starts_when_one_ends(desk: Desk) -> None:
    for _ in range(3):
        desk.submit()
    first, _ = start(desk), start(desk)
    assert first is not None
    assert start(desk) is None
    desk.jobs.hand_back(Claim(first.id, first.attempt))
    again = start(desk)
    assert again is not None
    assert (again.id, again.attempt) == (first.id, 2)
    assert start(desk) is None


@pytest.mark.parametrize(("own", "expected"), [(1, 1), (3, 3), (None, 2)])
def test_a_keys_own_cap_wins(desk: Desk, own: int | None, expected: int) -> None:
    owner = key(desk, max_running=own)
    for _ in range(5):
        desk.submit(owner_id=owner)
    while start(desk) is not None:
        pass
    assert running(desk) == {owner: expected}


def test_without_a_cap_everything_starts(stack: Stack) -> None:
    with contextlib.closing(Desk(stack.settings())) as desk:
        for _ in range(5):
            desk.submit()
        while start(desk) is not None:
            pass
        assert running(desk).total() == 5


def test_claims_at_the_same_moment_never_start_one_too_many(crowded: Desk) -> None:
    """Owners with caps of 1 to 3 and the setting's, hands that take and give back."""
    caps = {key(crowded, max_running=cap): cap or 2 for cap in (1, 2, 3, None)}
    for owner in caps:
        for _ in range(12):
            crowded.submit(owner_id=owner)
    gate = threading.Barrier(THREADS)
    seen: list[Counter[UUID]] = []

    def work(number: int) -> int:
        taken = 0
        for _ in range(8):
            gate.wait()
            job = crowded.jobs.claim(["noop"], worker=f"w#{number}")
            gate.wait()
            if number == 0:
                seen.append(running(crowded))
            gate.wait()
            if job is not None:
                taken += 1
                crowded.jobs.hand_back(Claim(job.id, job.attempt))
        return taken

    with ThreadPoolExecutor(THREADS) as pool:
        total = sum(pool.map(work, range(THREADS)))
    for found in seen:
        assert all(found[owner] <= cap for owner, cap in caps.items()), found
    assert total >= 8 * 6  # All but a claim or two of each round find their job.
    assert max(found.total() for found in seen) == sum(caps.values())


def test_submits_at_the_same_moment_never_queue_one_too_many(crowded: Desk) -> None:
    gate = threading.Barrier(THREADS)
    owners = [uuid4() for _ in range(10)]

    def send(_: int) -> None:
        for owner in owners:
            gate.wait()
            with contextlib.suppress(QueueFull):
                crowded.submit(owner_id=owner, max_queued=5)

    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(send, range(THREADS)))
    rows = crowded.run("SELECT owner_id, claim_at FROM jobs")
    assert Counter(row["owner_id"] for row in rows) == dict.fromkeys(owners, 5)
    # Nor do two jobs of one owner stand in one place.
    assert len({(row["owner_id"], row["claim_at"]) for row in rows}) == len(rows)
