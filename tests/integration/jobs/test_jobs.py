"""The transitions on a real Postgres: who may change a job, and what is written with it."""

import threading
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
from shared.owners import ANONYMOUS
from tests.support.factory import JobFixture, NullAnnouncer
from worker.keeper.clock_watch import ClockWatch

RESULT = Result(
    ai_generated=False,
    artifacts={
        Variant.VIDEO: Artifact(
            key="videos/x/1.mp4", content_type="video/mp4", bytes=1, sha256="0"
        )
    },
)


def claim(job_fixture: JobFixture, worker: str = "w#1") -> tuple[Job, Claim]:
    job = job_fixture.jobs.claim(["noop"], worker=worker)
    assert job is not None
    return job, Claim(job.id, job.attempt)


def lapse(job_fixture: JobFixture, job: Job) -> None:
    job_fixture.run(
        "UPDATE jobs SET lease_until = clock_timestamp() - interval '1 s' WHERE id = :id",
        id=job.id,
    )


def test_a_claim_raises_the_attempt_and_names_the_worker(job_fixture: JobFixture) -> None:
    submitted = job_fixture.submit()
    job, _ = claim(job_fixture, "me#1")
    assert (job.id, job.status, job.attempt, job.worker) == (
        submitted.id,
        Status.RUNNING,
        1,
        "me#1",
    )
    assert job.lease_until is not None
    assert job.started_at is not None


def test_twenty_workers_never_claim_one_job_twice(job_fixture: JobFixture) -> None:
    submitted = {job_fixture.submit().id for _ in range(10)}
    gate = threading.Barrier(20)

    def take(number: int) -> UUID | None:
        gate.wait()
        job = job_fixture.jobs.claim(["noop"], worker=f"w#{number}")
        return None if job is None else job.id

    with ThreadPoolExecutor(20) as pool:
        taken = [job_id for job_id in pool.map(take, range(20)) if job_id is not None]
    assert sorted(taken) == sorted(submitted)


def test_a_worker_that_lost_its_lease_can_write_nothing(job_fixture: JobFixture) -> None:
    job_fixture.submit()
    _, old = claim(job_fixture, "frozen#1")
    job, new = claim_again(job_fixture, old)
    with pytest.raises(LeaseLost):
        job_fixture.jobs.beat(old, Progress(stage=Stage.DENOISING))
    with pytest.raises(LeaseLost):
        job_fixture.jobs.complete(old, RESULT, {})
    with pytest.raises(LeaseLost):
        job_fixture.jobs.fail(old, OutOfMemory("no"), retryable=False, metrics={})
    with pytest.raises(LeaseLost):
        job_fixture.jobs.retry(old, OutOfMemory("no"), backoff=timedelta(0))
    with pytest.raises(LeaseLost):
        job_fixture.jobs.hand_back(old)
    done = job_fixture.jobs.complete(new, RESULT, {})
    assert (done.status, done.attempt) == (Status.SUCCEEDED, 2)
    assert job.failures == 1


def claim_again(job_fixture: JobFixture, old: Claim) -> tuple[Job, Claim]:
    lapse(job_fixture, job_fixture.queries.many([old.job_id])[old.job_id])
    assert len(job_fixture.jobs.reap(max_attempts=3)) == 1
    return claim(job_fixture, "fresh#1")


def test_a_job_that_is_lost_too_often_fails_as_worker_lost(job_fixture: JobFixture) -> None:
    job_fixture.submit()
    for _ in range(3):
        job, _ = claim(job_fixture)
        lapse(job_fixture, job)
        job_fixture.jobs.reap(max_attempts=3)
    job = job_fixture.get(job)
    assert (job.status, job.error_code, job.attempt) == (Status.FAILED, "worker_lost", 3)


def test_a_hand_back_keeps_the_place_and_charges_nothing(job_fixture: JobFixture) -> None:
    submitted = job_fixture.submit()
    _, held = claim(job_fixture)
    job = job_fixture.jobs.hand_back(held)
    assert (job.status, job.failures, job.attempt) == (Status.QUEUED, 0, 1)
    assert job.claim_at == submitted.claim_at


def test_a_retry_waits_out_its_backoff(job_fixture: JobFixture) -> None:
    job_fixture.submit()
    _, held = claim(job_fixture)
    job = job_fixture.jobs.retry(held, OutOfMemory("no"), backoff=timedelta(hours=1))
    assert (job.status, job.failures) == (Status.QUEUED, 1)
    assert job_fixture.jobs.claim(["noop"], worker="w#1") is None
    job_fixture.run("UPDATE jobs SET due_at = clock_timestamp()")
    assert claim(job_fixture)[0].attempt == 2


def test_only_a_lapsed_lease_is_reaped(job_fixture: JobFixture) -> None:
    job_fixture.submit()
    claim(job_fixture)
    assert job_fixture.jobs.reap(max_attempts=3) == []


def test_the_jobs_of_a_dead_child_come_back_at_once_and_no_other(job_fixture: JobFixture) -> None:
    for _ in range(3):
        job_fixture.submit()
    dead, _ = claim(job_fixture, "host-gpu0#aa")
    earlier, _ = claim(job_fixture, "host-gpu1#aa")
    alive, _ = claim(job_fixture, "host-gpu1#bb")
    assert [job.id for job in job_fixture.jobs.give_up(worker="host-gpu0#aa", max_attempts=3)] == [
        dead.id
    ]
    lost = job_fixture.jobs.give_up_earlier(worker="host-gpu1#bb", max_attempts=3)
    assert [job.id for job in lost] == [earlier.id]
    assert job_fixture.get(alive).status is Status.RUNNING


def test_cancel_is_final(job_fixture: JobFixture) -> None:
    job = job_fixture.submit()
    _, held = claim(job_fixture)
    assert job_fixture.jobs.cancel(job.id, owner_id=ANONYMOUS).status is Status.CANCELED
    assert job_fixture.jobs.cancel(job.id, owner_id=ANONYMOUS).status is Status.CANCELED
    with pytest.raises(LeaseLost):
        job_fixture.jobs.complete(held, RESULT, {})
    assert job_fixture.get(job).result is None


def test_a_finished_job_cannot_be_canceled(job_fixture: JobFixture) -> None:
    job = job_fixture.submit()
    _, held = claim(job_fixture)
    job_fixture.jobs.complete(held, RESULT, {})
    with pytest.raises(JobTerminal, match="succeeded"):
        job_fixture.jobs.cancel(job.id, owner_id=ANONYMOUS)


def test_a_deleted_job_is_canceled_and_then_gone(job_fixture: JobFixture) -> None:
    job = job_fixture.submit()
    _, held = claim(job_fixture)
    job_fixture.jobs.delete(job.id, owner_id=ANONYMOUS)
    with pytest.raises(NotFound):
        job_fixture.queries.get(job.id, owner_id=ANONYMOUS)
    with pytest.raises(NotFound):
        job_fixture.jobs.delete(job.id, owner_id=ANONYMOUS)
    with pytest.raises(LeaseLost):
        job_fixture.jobs.complete(held, RESULT, {})
    assert job_fixture.get(job).status is Status.CANCELED


@pytest.mark.parametrize("act", ["get", "cancel", "delete"])
def test_foreign_and_missing_jobs_give_the_same_answer(job_fixture: JobFixture, act: str) -> None:
    job = job_fixture.submit()
    methods = {
        "get": job_fixture.queries.get,
        "cancel": job_fixture.jobs.cancel,
        "delete": job_fixture.jobs.delete,
    }
    said = []
    for job_id, owner in ((job.id, uuid4()), (new_id(), ANONYMOUS)):
        with pytest.raises(NotFound) as caught:
            methods[act](job_id, owner_id=owner)
        said.append((caught.value.message, caught.value.code))
    assert said[0] == said[1]


def test_twenty_parallel_sends_of_one_key_make_one_job(job_fixture: JobFixture) -> None:
    gate = threading.Barrier(20)

    def send(_: int) -> UUID:
        gate.wait()
        return job_fixture.submit(idempotency_key="k", idempotency_fingerprint="f").id

    with ThreadPoolExecutor(20) as pool:
        assert len(set(pool.map(send, range(20)))) == 1
    assert job_fixture.run("SELECT count(*) AS n FROM jobs")[0]["n"] == 1


def test_a_key_with_another_body_is_refused(job_fixture: JobFixture) -> None:
    job_fixture.submit(idempotency_key="k", idempotency_fingerprint="f")
    with pytest.raises(IdempotencyConflict):
        job_fixture.submit(idempotency_key="k", idempotency_fingerprint="g")


def test_a_full_queue_refuses_and_another_owner_may_still_submit(job_fixture: JobFixture) -> None:
    job_fixture.submit(max_queued=1)
    with pytest.raises(QueueFull):
        job_fixture.submit(max_queued=1)
    job_fixture.submit(max_queued=1, owner_id=uuid4())


def test_a_newcomer_waits_for_one_job_of_a_crowd(job_fixture: JobFixture) -> None:
    for _ in range(50):
        job_fixture.submit()
    newcomer = job_fixture.submit(owner_id=uuid4())
    claimed = [claim(job_fixture)[0].id for _ in range(2)]
    assert newcomer.id in claimed


def test_one_owners_jobs_start_in_the_order_they_came(job_fixture: JobFixture) -> None:
    first = [job_fixture.submit() for _ in range(3)]
    started = [claim(job_fixture)[0].id]
    later = job_fixture.submit()
    started += [claim(job_fixture)[0].id for _ in range(3)]
    assert started == [job.id for job in first] + [later.id]


def test_a_high_priority_goes_before_and_a_low_one_after(job_fixture: JobFixture) -> None:
    low = job_fixture.submit(priority=Priority.LOW)
    normal = job_fixture.submit(owner_id=uuid4())
    high = job_fixture.submit(priority=Priority.HIGH)
    assert [claim(job_fixture)[0].id for _ in range(3)] == [high.id, normal.id, low.id]


def test_a_job_that_waits_past_its_ttl_fails_as_queue_timeout(job_fixture: JobFixture) -> None:
    job = job_fixture.submit(queue_ttl=timedelta(hours=1))
    assert job_fixture.jobs.time_out() == []
    job_fixture.run("UPDATE jobs SET queue_deadline = clock_timestamp()")
    assert job_fixture.jobs.claim(["noop"], worker="w#1") is None
    assert [late.id for late in job_fixture.jobs.time_out()] == [job.id]
    assert job_fixture.get(job).error_code == "queue_timeout"


def test_every_write_raises_the_version_and_is_announced(job_fixture: JobFixture) -> None:
    job_fixture.submit()
    job, held = claim(job_fixture)
    job_fixture.jobs.beat(held, Progress(stage=Stage.DENOISING, step=1, total_steps=2))
    job_fixture.jobs.complete(held, RESULT, {})
    assert isinstance(job_fixture.announcer, NullAnnouncer)
    assert job_fixture.announcer.said == [(job.id, version) for version in (1, 2, 3, 4)]


def test_a_terminal_job_and_its_webhooks_commit_together_once(job_fixture: JobFixture) -> None:
    job_fixture.submit(
        webhook_url="https://cms.example/hook", webhook_event_types=["job.succeeded"]
    )
    job_fixture.run(
        "INSERT INTO webhook_endpoints (id, owner_id, name, url, event_types, secret) VALUES"
        " (gen_random_uuid(), :owner, 'all', 'https://all.example', :events, 'whsec_x')",
        owner=ANONYMOUS,
        events=["job.started", "job.succeeded"],
    )
    _, held = claim(job_fixture)
    job_fixture.jobs.complete(held, RESULT, {})
    rows = job_fixture.run("SELECT event, url FROM deliveries ORDER BY event, url")
    assert [(row["event"], row["url"]) for row in rows] == [
        ("job.started", "https://all.example"),
        ("job.succeeded", "https://all.example"),
        ("job.succeeded", "https://cms.example/hook"),
    ]


def test_a_second_start_sends_no_second_started_event(job_fixture: JobFixture) -> None:
    job_fixture.submit(webhook_url="https://cms.example/hook", webhook_event_types=["job.started"])
    _, held = claim(job_fixture)
    job_fixture.jobs.hand_back(held)
    claim(job_fixture)
    assert job_fixture.run("SELECT count(*) AS n FROM deliveries")[0]["n"] == 1


def test_a_worker_that_lost_its_lease_cannot_fail_the_job_that_waits_again(
    job_fixture: JobFixture,
) -> None:
    job_fixture.submit()
    job, mine = claim(job_fixture)
    lapse(job_fixture, job)
    job_fixture.jobs.reap(max_attempts=3)
    with pytest.raises(LeaseLost):
        job_fixture.jobs.fail(mine, OutOfMemory("too large"), retryable=False, metrics={})
    assert job_fixture.get(job).status is Status.QUEUED


def shift(job_fixture: JobFixture, hours: int) -> None:
    """Move all times of jobs and deliveries, which has the effect of a clock that was set."""
    job_fixture.run(
        "UPDATE jobs SET created_at = created_at + :by, due_at = due_at + :by,"
        " lease_until = lease_until + :by",
        by=timedelta(hours=hours),
    )
    job_fixture.run(
        "UPDATE deliveries SET created_at = created_at + :by, next_at = next_at + :by",
        by=timedelta(hours=hours),
    )


def test_a_job_that_waits_when_the_clock_is_set_back_starts_at_once(
    job_fixture: JobFixture,
) -> None:
    submitted = job_fixture.submit()
    shift(job_fixture, hours=5)
    assert job_fixture.jobs.claim(["noop"], worker="w#1") is None

    ClockWatch(job_fixture.db, job_fixture.settings).look()

    assert claim(job_fixture)[0].id == submitted.id


def test_a_backoff_is_no_time_that_a_clock_left_ahead(job_fixture: JobFixture) -> None:
    job_fixture.submit()
    _, held = claim(job_fixture)
    job_fixture.run("UPDATE jobs SET created_at = clock_timestamp() - interval '1 h'")
    job_fixture.jobs.retry(held, OutOfMemory("no"), backoff=timedelta(minutes=5))
    ClockWatch(job_fixture.db, job_fixture.settings).look()
    assert job_fixture.jobs.claim(["noop"], worker="w#1") is None


def test_a_dead_workers_lease_ends_once_the_living_have_renewed_theirs(
    job_fixture: JobFixture,
) -> None:
    job_fixture.submit()
    claim(job_fixture)
    steady = [0.0]
    watch = ClockWatch(job_fixture.db, job_fixture.settings, steady=lambda: steady[0])
    watch.look()
    shift(job_fixture, hours=5)
    # An hour passed, but the database's clock did not move: somebody set it back.
    steady[0] = 3600
    watch.look()
    assert job_fixture.jobs.reap(max_attempts=3) == []
    # A lease of 60 s passes, in steps too small to look like a jump of the clock.
    for _ in range(3):
        steady[0] += 20
        watch.look()
    assert len(job_fixture.jobs.reap(max_attempts=3)) == 1


def test_a_webhook_that_waits_when_the_clock_is_set_back_is_sent_at_once(
    job_fixture: JobFixture,
) -> None:
    job_fixture.submit(
        webhook_url="https://cms.example/hook", webhook_event_types=["job.succeeded"]
    )
    _, held = claim(job_fixture)
    job_fixture.jobs.complete(held, RESULT, {})
    shift(job_fixture, hours=5)
    due = "SELECT id FROM deliveries WHERE next_at <= clock_timestamp()"
    assert job_fixture.run(due) == []

    ClockWatch(job_fixture.db, job_fixture.settings).look()

    assert len(job_fixture.run(due)) == 1
