"""A batch ends once, with its last job, no matter how its jobs end and how many end at once."""

import os
import random
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import partial
from typing import Any
from uuid import UUID, uuid4

import pytest

from shared.errors import IdempotencyConflict, JobTerminal, NotFound, OutOfMemory, QueueFull
from shared.ids import new_id
from shared.jobs.batch import Batch, NewBatch
from shared.jobs.batch_queries import BatchQueries
from shared.jobs.job import Job
from shared.jobs.transitions import Claim
from shared.owners import ANONYMOUS
from tests.support.factory import JobFixture, new_job
from tests.support.outbox import RESULT
from worker.keeper.purge import Purger

ROUNDS = int(os.environ.get("BATCH_ROUNDS", "3"))
"""Each round has a hundred ends at once; `make soak` has fifty rounds."""

HOOK = "https://hook.example.org/batches"


@pytest.fixture
def queries(job_fixture: JobFixture) -> BatchQueries:
    return BatchQueries(job_fixture.db)


def submit_batch(
    job_fixture: JobFixture, jobs: int, *, max_queued: int = 10_000, **fields: Any
) -> tuple[Batch, Sequence[Job]]:
    batch_id = new_id()
    values: dict[str, Any] = {
        "metadata": {},
        "webhook_url": None,
        "idempotency_key": None,
        "idempotency_fingerprint": "same",
    }
    batch = NewBatch(id=batch_id, owner_id=ANONYMOUS, **(values | fields))
    news = [new_job(batch_id=batch_id, batch_position=position) for position in range(1, jobs + 1)]
    made, queued = job_fixture.jobs.submit_batch(batch, news, max_queued=max_queued)
    return made, queued or ()


def deliveries(job_fixture: JobFixture) -> list[Any]:
    return list(job_fixture.run("SELECT * FROM deliveries WHERE batch_id IS NOT NULL"))


def ended_in_parallel(job_fixture: JobFixture, jobs: Sequence[Job], rounds: str) -> None:
    """End all jobs from sixteen threads: completed, failed, lost, canceled or deleted."""
    draw = random.Random(rounds)
    claims: dict[UUID, Claim] = {}
    while (job := job_fixture.jobs.claim(["noop"], worker=f"w#{len(claims)}")) is not None:
        claims[job.id] = Claim(job.id, job.attempt)
    work: list[Callable[[], object]] = []
    losses = 0
    for job in jobs:
        claim, how = claims[job.id], draw.choice(("complete", "fail", "cancel", "delete", "lose"))
        if how == "complete":
            work.append(partial(job_fixture.jobs.complete, claim, RESULT, {}))
        elif how == "fail":
            error = OutOfMemory("too large")
            work.append(partial(job_fixture.jobs.fail, claim, error, retryable=False, metrics={}))
        elif how == "lose":
            losses += 1
            job_fixture.run(
                "UPDATE jobs SET lease_until = clock_timestamp() - interval '1 s' WHERE id = :id",
                id=job.id,
            )
        else:
            act = getattr(job_fixture.jobs, how)
            work.append(partial(act, job.id, owner_id=ANONYMOUS))
    work += [lambda: job_fixture.jobs.reap(max_attempts=1)] * (4 if losses else 0)
    draw.shuffle(work)
    run_in_parallel(work, threads=16)


def run_in_parallel(work: Sequence[Callable[[], object]], *, threads: int) -> None:
    queue, lock, faults = list(work), threading.Lock(), []

    def run() -> None:
        while True:
            with lock:
                if not queue:
                    return
                act = queue.pop()
            try:
                act()
            except Exception as fault:
                faults.append(fault)

    crew = [threading.Thread(target=run) for _ in range(threads)]
    for each in crew:
        each.start()
    for each in crew:
        each.join(120)
    assert faults == []


@pytest.mark.parametrize("turn", range(ROUNDS))
def test_a_hundred_ends_at_once_are_told_once(
    job_fixture: JobFixture, queries: BatchQueries, turn: int
) -> None:
    check_one_round(job_fixture, queries, f"round {turn}")


def check_one_round(job_fixture: JobFixture, queries: BatchQueries, name: str) -> None:
    batch, jobs = submit_batch(job_fixture, 100, webhook_url=HOOK)
    ended_in_parallel(job_fixture, jobs, name)
    job_fixture.jobs.reap(max_attempts=1)

    ended = queries.get(batch.id, owner_id=ANONYMOUS)
    statuses = Counter(
        row["status"]
        for row in job_fixture.run("SELECT status FROM jobs WHERE batch_id = :id", id=batch.id)
    )
    told = [row for row in deliveries(job_fixture) if row["batch_id"] == batch.id]
    assert statuses == Counter(
        succeeded=ended.succeeded, failed=ended.failed, canceled=ended.canceled
    )
    assert statuses.total() == ended.total == 100
    assert ended.finished_at is not None
    assert [(row["event"], row["url"]) for row in told] == [("batch.finished", HOOK)]


def test_nothing_is_told_before_the_last_job_ends(
    job_fixture: JobFixture, queries: BatchQueries
) -> None:
    batch, (first, last) = submit_batch(job_fixture, 2, webhook_url=HOOK)
    job_fixture.jobs.cancel(first.id, owner_id=ANONYMOUS)
    assert queries.get(batch.id, owner_id=ANONYMOUS).finished_at is None
    assert deliveries(job_fixture) == []
    job_fixture.jobs.cancel(last.id, owner_id=ANONYMOUS)
    assert len(deliveries(job_fixture)) == 1


def test_a_job_that_ended_is_not_counted_again_when_it_is_deleted(
    job_fixture: JobFixture, queries: BatchQueries
) -> None:
    batch, (job, _) = submit_batch(job_fixture, 2)
    job_fixture.jobs.cancel(job.id, owner_id=ANONYMOUS)
    job_fixture.jobs.cancel(job.id, owner_id=ANONYMOUS)
    job_fixture.jobs.delete(job.id, owner_id=ANONYMOUS)
    assert queries.get(batch.id, owner_id=ANONYMOUS).canceled == 1


def test_a_batch_is_queued_whole_or_not_at_all(job_fixture: JobFixture) -> None:
    with pytest.raises(QueueFull, match="you may have 2 jobs waiting, and this batch has 3"):
        submit_batch(job_fixture, 3, max_queued=2)
    assert job_fixture.run("SELECT * FROM jobs") == []
    assert job_fixture.run("SELECT * FROM batches") == []
    assert job_fixture.run("SELECT * FROM usage_days WHERE reserved_ms > 0") == []


def test_a_key_gives_the_same_batch_under_twenty_parallel_sends(job_fixture: JobFixture) -> None:
    made: list[UUID] = []
    run_in_parallel(
        [lambda: made.append(submit_batch(job_fixture, 3, idempotency_key="once")[0].id)] * 20,
        threads=10,
    )
    assert len(made) == 20
    assert len(set(made)) == 1
    assert len(job_fixture.run("SELECT * FROM jobs")) == 3


def test_a_key_of_another_batch_is_refused(job_fixture: JobFixture) -> None:
    submit_batch(job_fixture, 1, idempotency_key="once")
    with pytest.raises(IdempotencyConflict):
        submit_batch(
            job_fixture, 1, idempotency_key="once", idempotency_fingerprint="something else"
        )


def test_cancel_ends_what_lives_and_leaves_what_ended(
    job_fixture: JobFixture, queries: BatchQueries
) -> None:
    batch, _ = submit_batch(job_fixture, 3, webhook_url=HOOK)
    done = job_fixture.jobs.claim(["noop"], worker="w#1")
    running = job_fixture.jobs.claim(["noop"], worker="w#2")
    assert done is not None
    assert running is not None
    job_fixture.jobs.complete(Claim(done.id, done.attempt), RESULT, {})

    ended = job_fixture.jobs.cancel_batch(batch.id, owner_id=ANONYMOUS)

    assert (ended.succeeded, ended.canceled) == (1, 2)
    assert ended.canceled_at is not None
    assert ended.finished_at is not None
    assert len(deliveries(job_fixture)) == 1
    assert job_fixture.jobs.cancel_batch(batch.id, owner_id=ANONYMOUS) == ended


def test_a_batch_that_ended_by_itself_cannot_be_canceled(job_fixture: JobFixture) -> None:
    batch, (job,) = submit_batch(job_fixture, 1)
    job_fixture.jobs.cancel(job.id, owner_id=ANONYMOUS)
    with pytest.raises(JobTerminal):
        job_fixture.jobs.cancel_batch(batch.id, owner_id=ANONYMOUS)


def test_two_who_cancel_one_batch_do_not_wait_for_each_other(job_fixture: JobFixture) -> None:
    for _ in range(5):
        batch, jobs = submit_batch(job_fixture, 40)
        work: list[Callable[[], object]] = [
            partial(job_fixture.jobs.cancel_batch, batch.id, owner_id=ANONYMOUS)
        ] * 4
        work += [partial(job_fixture.jobs.delete, job.id, owner_id=ANONYMOUS) for job in jobs[::2]]
        run_in_parallel(work, threads=8)


def test_nobody_reads_or_cancels_anothers_batch(
    job_fixture: JobFixture, queries: BatchQueries
) -> None:
    batch, _ = submit_batch(job_fixture, 1)
    stranger = uuid4()
    with pytest.raises(NotFound):
        queries.get(batch.id, owner_id=stranger)
    with pytest.raises(NotFound):
        job_fixture.jobs.cancel_batch(batch.id, owner_id=stranger)
    assert list(queries.jobs(batch.id, owner_id=stranger)) == []


def test_an_endpoint_hears_of_batches_where_it_is_registered_for_them(
    job_fixture: JobFixture,
) -> None:
    for url, event in (("https://a.example.org/", "batch.finished"), (HOOK, "job.canceled")):
        job_fixture.run(
            "INSERT INTO webhook_endpoints (id, owner_id, name, url, event_types, secret)"
            " VALUES (:id, :owner, 'mine', :url, :types, 'secret')",
            id=uuid4(),
            owner=ANONYMOUS,
            url=url,
            types=[event],
        )
    batch, _ = submit_batch(job_fixture, 2)
    job_fixture.jobs.cancel_batch(batch.id, owner_id=ANONYMOUS)
    assert [row["url"] for row in deliveries(job_fixture)] == ["https://a.example.org/"]
    of_jobs = job_fixture.run("SELECT url FROM deliveries WHERE job_id IS NOT NULL")
    assert [row["url"] for row in of_jobs] == [HOOK] * 2


def test_the_keeper_times_out_jobs_of_several_batches_at_once(job_fixture: JobFixture) -> None:
    batches = [submit_batch(job_fixture, 10)[0] for _ in range(3)]
    job_fixture.run("UPDATE jobs SET queue_deadline = clock_timestamp() - interval '1 s'")
    run_in_parallel([job_fixture.jobs.time_out] * 4, threads=4)
    job_fixture.jobs.time_out()
    rows = job_fixture.run("SELECT id, failed, finished_at FROM batches ORDER BY id")
    assert [(row["id"], row["failed"]) for row in rows] == [(each.id, 10) for each in batches]
    assert all(row["finished_at"] is not None for row in rows)


def test_the_progress_of_a_batch_is_the_mean_of_its_jobs(
    job_fixture: JobFixture, queries: BatchQueries
) -> None:
    batch, _ = submit_batch(job_fixture, 4)
    for number in range(2):
        job = job_fixture.jobs.claim(["noop"], worker=f"w#{number}")
        assert job is not None
    job_fixture.run(
        "UPDATE jobs SET stage = 'denoising', step = 5, total_steps = 10 WHERE status = 'running'"
    )
    (live,) = queries.live([queries.get(batch.id, owner_id=ANONYMOUS)]).values()
    assert (live.queued, live.running, live.percents) == (2, 2, 94)


@pytest.mark.parametrize("age", [timedelta(days=1), timedelta(days=400)])
def test_a_batch_is_forgotten_after_its_last_job(job_fixture: JobFixture, age: timedelta) -> None:
    purger = Purger(job_fixture.db, job_fixture.settings)
    batch, _ = submit_batch(job_fixture, 1, webhook_url=HOOK)
    job_fixture.jobs.cancel_batch(batch.id, owner_id=ANONYMOUS)
    job_fixture.run("UPDATE batches SET finished_at = finished_at - :age", age=age)
    assert purger.purge_batches() == 0, "its job is there"
    job_fixture.run("DELETE FROM deliveries WHERE job_id IS NOT NULL")
    job_fixture.run("DELETE FROM jobs")
    assert purger.purge_batches() == 0, "its webhook is on its way"
    job_fixture.run("UPDATE deliveries SET status = 'delivered', next_at = NULL")
    assert purger.purge_batches() == (1 if age.days > 365 else 0)
