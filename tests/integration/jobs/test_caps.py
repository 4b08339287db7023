"""The exact number of jobs that one owner may have running, and who continues meanwhile."""

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
from shared.jobs.job import Job
from shared.jobs.transitions import Claim, Jobs
from tests.support.factory import JobFixture, NullAnnouncer
from tests.support.stack import Stack

THREADS = 16


@pytest.fixture
def job_fixture(stack: Stack) -> Iterator[JobFixture]:
    """Owners may have two jobs running, unless their key says otherwise."""
    with contextlib.closing(JobFixture(stack.settings(max_running_per_key=2))) as desk:
        yield desk


@pytest.fixture
def crowded(job_fixture: JobFixture) -> Iterator[JobFixture]:
    """The same fixture, with a connection for each of many threads."""
    db = Database(
        job_fixture.settings.database_url.get_secret_value(),
        deadline=timedelta(seconds=30),
        pool_size=THREADS,
    )
    with contextlib.closing(db):
        job_fixture.db.close()
        job_fixture.db = db
        job_fixture.jobs = Jobs(
            db, NullAnnouncer(), lease=timedelta(minutes=5), first_try=timedelta(0), max_running=2
        )
        yield job_fixture


def key(job_fixture: JobFixture, *, max_running: int | None = None) -> UUID:
    """Make the key of a new owner."""
    owner = uuid4()
    job_fixture.run(
        "INSERT INTO api_keys (id, name, prefix, key_sha256, max_running)"
        " VALUES (:id, :name, :name, 'x', :max_running)",
        id=owner,
        name=owner.hex,
        max_running=max_running,
    )
    return owner


def start(job_fixture: JobFixture) -> Job | None:
    return job_fixture.jobs.claim(["noop"], worker="w#1")


def running(job_fixture: JobFixture) -> Counter[UUID]:
    rows = job_fixture.run("SELECT owner_id FROM jobs WHERE status = 'running'")
    return Counter(row["owner_id"] for row in rows)


def test_an_owner_with_enough_running_waits_and_others_go_on(job_fixture: JobFixture) -> None:
    crowd, other = uuid4(), uuid4()
    for _ in range(4):
        job_fixture.submit(owner_id=crowd)
    assert [
        job and job.owner_id
        for job in (start(job_fixture), start(job_fixture), start(job_fixture))
    ] == [
        crowd,
        crowd,
        None,
    ]
    job_fixture.submit(owner_id=other)
    job = start(job_fixture)
    assert job is not None
    assert job.owner_id == other


def test_the_next_job_starts_when_one_ends(job_fixture: JobFixture) -> None:
    for _ in range(3):
        job_fixture.submit()
    first, _ = start(job_fixture), start(job_fixture)
    assert first is not None
    assert start(job_fixture) is None
    job_fixture.jobs.hand_back(Claim(first.id, first.attempt))
    again = start(job_fixture)
    assert again is not None
    assert (again.id, again.attempt) == (first.id, 2)
    assert start(job_fixture) is None


@pytest.mark.parametrize(("own", "expected"), [(1, 1), (3, 3), (None, 2)])
def test_a_keys_own_cap_wins(job_fixture: JobFixture, own: int | None, expected: int) -> None:
    owner = key(job_fixture, max_running=own)
    for _ in range(5):
        job_fixture.submit(owner_id=owner)
    while start(job_fixture) is not None:
        pass
    assert running(job_fixture) == {owner: expected}


def test_without_a_cap_everything_starts(stack: Stack) -> None:
    with contextlib.closing(JobFixture(stack.settings())) as desk:
        for _ in range(5):
            desk.submit()
        while start(desk) is not None:
            pass
        assert running(desk).total() == 5


def test_claims_at_the_same_moment_never_start_one_too_many(crowded: JobFixture) -> None:
    """Owners have caps of 1 to 3 or the setting's; workers claim jobs and hand them back."""
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
    # In each round all workers but one or two get a job.
    assert total >= 8 * 6
    assert max(found.total() for found in seen) == sum(caps.values())


def test_submits_at_the_same_moment_never_queue_one_too_many(crowded: JobFixture) -> None:
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
    # No two jobs of one owner have the same place.
    assert len({(row["owner_id"], row["claim_at"]) for row in rows}) == len(rows)
