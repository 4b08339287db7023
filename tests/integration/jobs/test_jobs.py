"""The transitions on a real Postgres: who may do what to a job, and what is written with it."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from uuid import UUID, uuid4

import pytest

from shared.errors import (
    IdempotencyConflict,
    JobTerminal,
    LeaseLost,
    NotFound,
    OutOfMemory,
    QueueFull,
)
from shared.ids import new_id
from shared.jobs.job import Artifact, Job, Priority, Result, Variant
from shared.jobs.transitions import Claim, Progress
from shared.lifecycle import Stage, Status
from shared.tables import ANONYMOUS
from tests.support.factory import Desk, Silence
from tests.support.stack import Stack

RESULT = Result(
    ai_generated=False,
    artifacts={
        Variant.VIDEO: Artifact(
            key="videos/x/1.mp4", content_type="video/mp4", bytes=1, sha256="0"
        )
    },
)


@pytest.fixture
def desk(stack: Stack) -> Iterator[Desk]:
    desk = Desk(stack.settings())
    yield desk
    desk.close()


def claim(desk: Desk, worker: str = "w#1") -> tuple[Job, Claim]:
    job = desk.jobs.claim(["noop"], worker=worker)
    assert job is not None
    return job, Claim(job.id, job.attempt)


def lapse(desk: Desk, job: Job) -> None:
    desk.run(
        "UPDATE jobs SET lease_until = clock_timestamp() - interval '1 s' WHERE id = :id",
        id=job.id,
    )


def test_a_claim_raises_the_attempt_and_names_the_worker(desk: Desk) -> None:
    submitted = desk.submit()
    job, _ = claim(desk, "me#1")
    assert (job.id, job.status, job.attempt, job.worker) == (
        submitted.id,
        Status.RUNNING,
        1,
        "me#1",
    )
    assert job.lease_until is not None
    assert job.started_at is not None


def test_twenty_workers_never_claim_one_job_twice(desk: Desk) -> None:
    submitted = {desk.submit().id for _ in range(10)}
    gate = threading.Barrier(20)

    def take(number: int) -> UUID | None:
        gate.wait()
        job = desk.jobs.claim(["noop"], worker=f"w#{number}")
        return None if job is None else job.id

    with ThreadPoolExecutor(20) as pool:
        taken = [job_id for job_id in pool.map(take, range(20)) if job_id is not None]
    assert sorted(taken) == sorted(submitted)


def test_a_worker_that_lost_its_lease_can_write_nothing(desk: Desk) -> None:
    desk.submit()
    _, old = claim(desk, "frozen#1")
    job, new = claim_again(desk, old)
    with pytest.raises(LeaseLost):
        desk.jobs.beat(old, Progress(stage=Stage.DENOISING))
    with pytest.raises(LeaseLost):
        desk.jobs.complete(old, RESULT, {})
    with pytest.raises(LeaseLost):
        desk.jobs.fail(old, OutOfMemory("no"), retryable=False, metrics={})
    with pytest.raises(LeaseLost):
        desk.jobs.retry(old, OutOfMemory("no"), backoff=timedelta(0))
    with pytest.raises(LeaseLost):
        desk.jobs.hand_back(old)
    done = desk.jobs.complete(new, RESULT, {})
    assert (done.status, done.attempt) == (Status.SUCCEEDED, 2)
    assert job.failures == 1


def claim_again(desk: Desk, old: Claim) -> tuple[Job, Claim]:
    lapse(desk, desk.ledger.many([old.job_id])[old.job_id])
    assert len(desk.jobs.reap(max_attempts=3)) == 1
    return claim(desk, "fresh#1")


def test_a_job_that_is_lost_too_often_fails_as_worker_lost(desk: Desk) -> None:
    desk.submit()
    for _ in range(3):
        job, _ = claim(desk)
        lapse(desk, job)
        desk.jobs.reap(max_attempts=3)
    job = desk.get(job)
    assert (job.status, job.error_code, job.attempt) == (Status.FAILED, "worker_lost", 3)


def test_a_hand_back_keeps_the_place_and_charges_nothing(desk: Desk) -> None:
    submitted = desk.submit()
    _, held = claim(desk)
    job = desk.jobs.hand_back(held)
    assert (job.status, job.failures, job.attempt) == (Status.QUEUED, 0, 1)
    assert job.claim_at == submitted.claim_at


def test_a_retry_waits_out_its_backoff(desk: Desk) -> None:
    desk.submit()
    _, held = claim(desk)
    job = desk.jobs.retry(held, OutOfMemory("no"), backoff=timedelta(hours=1))
    assert (job.status, job.failures) == (Status.QUEUED, 1)
    assert desk.jobs.claim(["noop"], worker="w#1") is None
    desk.run("UPDATE jobs SET due_at = clock_timestamp()")
    assert claim(desk)[0].attempt == 2


def test_only_a_lapsed_lease_is_reaped(desk: Desk) -> None:
    desk.submit()
    claim(desk)
    assert desk.jobs.reap(max_attempts=3) == []


def test_the_jobs_of_a_dead_child_come_back_at_once_and_no_other(desk: Desk) -> None:
    for _ in range(3):
        desk.submit()
    dead, _ = claim(desk, "host-gpu0#aa")
    earlier, _ = claim(desk, "host-gpu1#aa")
    alive, _ = claim(desk, "host-gpu1#bb")
    assert [job.id for job in desk.jobs.give_up(worker="host-gpu0#aa", max_attempts=3)] == [
        dead.id
    ]
    lost = desk.jobs.give_up_earlier(worker="host-gpu1#bb", max_attempts=3)
    assert [job.id for job in lost] == [earlier.id]
    assert desk.get(alive).status is Status.RUNNING


def test_cancel_is_final(desk: Desk) -> None:
    job = desk.submit()
    _, held = claim(desk)
    assert desk.jobs.cancel(job.id, owner_id=ANONYMOUS).status is Status.CANCELED
    assert desk.jobs.cancel(job.id, owner_id=ANONYMOUS).status is Status.CANCELED
    with pytest.raises(LeaseLost):
        desk.jobs.complete(held, RESULT, {})
    assert desk.get(job).result is None


def test_a_finished_job_cannot_be_canceled(desk: Desk) -> None:
    job = desk.submit()
    _, held = claim(desk)
    desk.jobs.complete(held, RESULT, {})
    with pytest.raises(JobTerminal, match="succeeded"):
        desk.jobs.cancel(job.id, owner_id=ANONYMOUS)


def test_a_deleted_job_is_canceled_and_then_gone(desk: Desk) -> None:
    job = desk.submit()
    _, held = claim(desk)
    desk.jobs.delete(job.id, owner_id=ANONYMOUS)
    with pytest.raises(NotFound):
        desk.ledger.get(job.id, owner_id=ANONYMOUS)
    with pytest.raises(NotFound):
        desk.jobs.delete(job.id, owner_id=ANONYMOUS)
    with pytest.raises(LeaseLost):
        desk.jobs.complete(held, RESULT, {})
    assert desk.get(job).status is Status.CANCELED


@pytest.mark.parametrize("act", ["get", "cancel", "delete"])
def test_foreign_and_missing_jobs_give_the_same_answer(desk: Desk, act: str) -> None:
    job = desk.submit()
    methods = {"get": desk.ledger.get, "cancel": desk.jobs.cancel, "delete": desk.jobs.delete}
    said = []
    for job_id, owner in ((job.id, uuid4()), (new_id(), ANONYMOUS)):
        with pytest.raises(NotFound) as caught:
            methods[act](job_id, owner_id=owner)
        said.append((caught.value.message, caught.value.code))
    assert said[0] == said[1]


def test_twenty_parallel_sends_of_one_key_make_one_job(desk: Desk) -> None:
    gate = threading.Barrier(20)

    def send(_: int) -> UUID:
        gate.wait()
        return desk.submit(idempotency_key="k", idempotency_fingerprint="f").id

    with ThreadPoolExecutor(20) as pool:
        assert len(set(pool.map(send, range(20)))) == 1
    assert desk.run("SELECT count(*) AS n FROM jobs")[0]["n"] == 1


def test_a_key_with_another_body_is_refused(desk: Desk) -> None:
    desk.submit(idempotency_key="k", idempotency_fingerprint="f")
    with pytest.raises(IdempotencyConflict):
        desk.submit(idempotency_key="k", idempotency_fingerprint="g")


def test_a_full_queue_refuses_and_another_owner_may_still_submit(desk: Desk) -> None:
    desk.submit(max_queued=1)
    with pytest.raises(QueueFull):
        desk.submit(max_queued=1)
    desk.submit(max_queued=1, owner_id=uuid4())


def test_a_newcomer_waits_for_one_job_of_a_crowd(desk: Desk) -> None:
    for _ in range(50):
        desk.submit()
    newcomer = desk.submit(owner_id=uuid4())
    claimed = [claim(desk)[0].id for _ in range(2)]
    assert newcomer.id in claimed


def test_one_owners_jobs_start_in_the_order_they_came(desk: Desk) -> None:
    first = [desk.submit() for _ in range(3)]
    started = [claim(desk)[0].id]
    later = desk.submit()
    started += [claim(desk)[0].id for _ in range(3)]
    assert started == [job.id for job in first] + [later.id]


def test_a_high_priority_goes_before_and_a_low_one_after(desk: Desk) -> None:
    low = desk.submit(priority=Priority.LOW)
    normal = desk.submit(owner_id=uuid4())
    high = desk.submit(priority=Priority.HIGH)
    assert [claim(desk)[0].id for _ in range(3)] == [high.id, normal.id, low.id]


def test_a_job_that_waits_past_its_ttl_fails_as_queue_timeout(desk: Desk) -> None:
    job = desk.submit(queue_ttl=timedelta(hours=1))
    assert desk.jobs.time_out() == []
    desk.run("UPDATE jobs SET queue_deadline = clock_timestamp()")
    assert desk.jobs.claim(["noop"], worker="w#1") is None
    assert [late.id for late in desk.jobs.time_out()] == [job.id]
    assert desk.get(job).error_code == "queue_timeout"


def test_every_write_raises_the_version_and_is_announced(desk: Desk) -> None:
    desk.submit()
    job, held = claim(desk)
    desk.jobs.beat(held, Progress(stage=Stage.DENOISING, step=1, total_steps=2))
    desk.jobs.complete(held, RESULT, {})
    assert isinstance(desk.announcer, Silence)
    assert desk.announcer.said == [(job.id, version) for version in (1, 2, 3, 4)]


def test_a_terminal_job_and_its_webhooks_commit_together_once(desk: Desk) -> None:
    desk.submit(webhook_url="https://cms.example/hook", webhook_event_types=["job.succeeded"])
    desk.run(
        "INSERT INTO webhook_endpoints (id, owner_id, name, url, event_types, secret) VALUES"
        " (gen_random_uuid(), :owner, 'all', 'https://all.example', :events, 'whsec_x')",
        owner=ANONYMOUS,
        events=["job.started", "job.succeeded"],
    )
    _, held = claim(desk)
    desk.jobs.complete(held, RESULT, {})
    rows = desk.run("SELECT event, url FROM deliveries ORDER BY event, url")
    assert [(row["event"], row["url"]) for row in rows] == [
        ("job.started", "https://all.example"),
        ("job.succeeded", "https://all.example"),
        ("job.succeeded", "https://cms.example/hook"),
    ]


def test_a_second_start_sends_no_second_started_event(desk: Desk) -> None:
    desk.submit(webhook_url="https://cms.example/hook", webhook_event_types=["job.started"])
    _, held = claim(desk)
    desk.jobs.hand_back(held)
    claim(desk)
    assert desk.run("SELECT count(*) AS n FROM deliveries")[0]["n"] == 1


def test_a_worker_that_lost_its_lease_cannot_fail_the_job_that_waits_again(desk: Desk) -> None:
    desk.submit()
    job, mine = claim(desk)
    lapse(desk, job)
    desk.jobs.reap(max_attempts=3)
    with pytest.raises(LeaseLost):
        desk.jobs.fail(mine, OutOfMemory("too large"), retryable=False, metrics={})
    assert desk.get(job).status is Status.QUEUED
