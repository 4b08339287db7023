"""Transitions in random order, on a real Postgres, keep every promise."""

import contextlib
import os
from collections.abc import Iterator
from datetime import timedelta
from typing import Any, ClassVar, cast
from uuid import UUID

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
    run_state_machine_as_test,
)

from shared.errors import JobTerminal, LeaseLost, NotFound, Unforeseen
from shared.jobs.job import Artifact, Job, Result, Variant
from shared.jobs.storage_keys import output_key
from shared.jobs.transitions import Claim, Progress
from shared.lifecycle import TERMINAL, Stage, Status
from shared.owners import ANONYMOUS
from tests.support.factory import JobFixture
from tests.support.stack import Stack

EXAMPLES = int(os.environ.get("STATE_MACHINE_EXAMPLES", "30"))
MAX_ATTEMPTS = 3
WORKERS = st.sampled_from(["a#1", "a#2", "b#1"])
KEYS = st.sampled_from(["k1", "k2", None])
CAPPED = UUID(int=7)
"""An owner whose key lets one job run at a time."""

OWNERS = st.sampled_from([ANONYMOUS, CAPPED])


class Lives(RuleBasedStateMachine):
    """Clients, workers and keepers on one queue; a worker may act on any claim it ever had."""

    desk: ClassVar[JobFixture]
    claims: Bundle[Claim] = Bundle("claims")
    jobs: Bundle[UUID] = Bundle("jobs")

    @initialize()
    def begin_empty(self) -> None:
        self.desk.run("TRUNCATE jobs, deliveries, delivery_attempts, api_keys CASCADE")
        self.desk.run(KEY, id=CAPPED)
        self._before: dict[UUID, Job] = {}
        self._by_key: dict[tuple[UUID, str], UUID] = {}
        self._canceled: set[UUID] = set()
        self._deleted: set[UUID] = set()

    @rule(target=jobs, owner=OWNERS, key=KEYS)
    def submit(self, owner: UUID, key: str | None) -> UUID:
        job = self.desk.submit(
            owner_id=owner,
            idempotency_key=key,
            idempotency_fingerprint="same",
            webhook_url="http://127.0.0.1/hook",
            webhook_event_types=("job.succeeded", "job.failed", "job.canceled"),
        )
        if key is not None:
            assert self._by_key.setdefault((owner, key), job.id) == job.id
        return job.id

    @rule(target=claims, worker=WORKERS)
    def claim(self, worker: str) -> Any:
        job = self.desk.jobs.claim(["noop"], worker=worker)
        if job is None:
            found = self._now().values()
            is_full = any(_is_running(j) and j.owner_id == CAPPED for j in found)
            assert all(is_full and j.owner_id == CAPPED for j in found if _is_due(j))
            return multiple()
        assert (job.status, job.worker) == (Status.RUNNING, worker)
        assert job.attempt == self._before[job.id].attempt + 1
        return Claim(job.id, job.attempt)

    @rule(claim=claims)
    def beat(self, claim: Claim) -> None:
        with self._only_the_newest(claim):
            self.desk.jobs.beat(claim, Progress(stage=Stage.DENOISING, step=1, total_steps=2))

    @rule(claim=claims)
    def hand_back(self, claim: Claim) -> None:
        with self._only_the_newest(claim):
            job = self.desk.jobs.hand_back(claim)
            assert job.failures == self._before[claim.job_id].failures

    @rule(claim=claims)
    def retry(self, claim: Claim) -> None:
        with self._only_the_newest(claim):
            job = self.desk.jobs.retry(claim, Unforeseen("again"), backoff=timedelta(0))
            assert job.failures == self._before[claim.job_id].failures + 1

    @rule(claim=claims)
    def complete(self, claim: Claim) -> None:
        with self._only_the_newest(claim):
            self.desk.jobs.complete(claim, result_of(claim), {})

    @rule(claim=claims)
    def fail(self, claim: Claim) -> None:
        with self._only_the_newest(claim):
            self.desk.jobs.fail(claim, Unforeseen("no"), retryable=False, metrics={})

    @rule(job_id=jobs)
    def cancel(self, job_id: UUID) -> None:
        before = self._before[job_id]
        try:
            job = self.desk.jobs.cancel(job_id, owner_id=before.owner_id)
        except JobTerminal:
            assert before.status in {Status.SUCCEEDED, Status.FAILED}
        except NotFound:
            assert job_id in self._deleted
        else:
            assert job.status is Status.CANCELED
            self._canceled.add(job_id)

    @rule(job_id=jobs)
    def delete(self, job_id: UUID) -> None:
        with contextlib.suppress(NotFound):
            self.desk.jobs.delete(job_id, owner_id=self._before[job_id].owner_id)
            assert job_id not in self._deleted
        self._deleted.add(job_id)
        self._by_key = {key: id_ for key, id_ in self._by_key.items() if id_ != job_id}

    @precondition(lambda self: any(j.status is Status.RUNNING for j in self._before.values()))
    @rule(claim=claims)
    def expire(self, claim: Claim) -> None:
        self.desk.run(
            "UPDATE jobs SET lease_until = clock_timestamp() - interval '1 s'"
            " WHERE id = :id AND status = 'running'",
            id=claim.job_id,
        )
        self._before = self._now()

    @rule()
    def reap(self) -> None:
        self._lost(self.desk.jobs.reap(max_attempts=MAX_ATTEMPTS))

    @rule(worker=WORKERS)
    def give_up(self, worker: str) -> None:
        self._lost(self.desk.jobs.give_up(worker=worker, max_attempts=MAX_ATTEMPTS))
        assert not [j for j in self._now().values() if j.worker == worker and _is_running(j)]

    @rule(worker=WORKERS)
    def give_up_earlier(self, worker: str) -> None:
        self._lost(self.desk.jobs.give_up_earlier(worker=worker, max_attempts=MAX_ATTEMPTS))

    @invariant()
    def promises_hold(self) -> None:
        self._history_only_grows()
        self._what_is_answered_stays_true()
        self._every_end_has_one_webhook_and_nothing_else_has()

    def _history_only_grows(self) -> None:
        now = self._now()
        assert set(self._before) <= set(now)  # No job ever vanishes.
        for id_, was in self._before.items():
            job = now[id_]
            assert job.attempt >= was.attempt
            assert job.failures >= was.failures
            assert job.version > was.version or job == was  # Every write is a new version.
            if was.status in TERMINAL:
                assert (job.status, job.result) == (was.status, was.result)
        self._before = now

    def _what_is_answered_stays_true(self) -> None:
        for job in self._before.values():
            assert (job.result is not None) == (job.status is Status.SUCCEEDED)
            if job.result is not None:
                key = job.result.artifacts[Variant.VIDEO].key
                assert key == output_key(job.id, job.attempt, ".mp4")
            assert (job.lease_until is not None) == _is_running(job)
            assert job.failures <= MAX_ATTEMPTS or job.error_code != "worker_lost"
        assert sum(_is_running(j) for j in self._before.values() if j.owner_id == CAPPED) <= 1
        assert all(self._before[id_].status is Status.CANCELED for id_ in self._canceled)
        assert all(self._before[id_].deleted_at is not None for id_ in self._deleted)

    def _every_end_has_one_webhook_and_nothing_else_has(self) -> None:
        told = {row["job_id"]: row["events"] for row in self.desk.run(TOLD)}
        for job in self._before.values():
            expected = [f"job.{job.status}"] if job.is_terminal else []
            assert told.get(job.id, []) == expected

    @contextlib.contextmanager
    def _only_the_newest(self, claim: Claim) -> Iterator[None]:
        """Expect LeaseLost exactly if the claim is no longer the running attempt."""
        before = self._before[claim.job_id]
        is_ours = _is_running(before) and before.attempt == claim.attempt
        try:
            yield
        except LeaseLost:
            assert not is_ours
        else:
            assert is_ours

    def _lost(self, jobs: list[Job]) -> None:
        for job in jobs:
            was = self._before[job.id]
            assert _is_running(was)
            ends = was.failures + 1 >= MAX_ATTEMPTS
            assert job.status is (Status.FAILED if ends else Status.QUEUED)

    def _now(self) -> dict[UUID, Job]:
        rows = self.desk.run("SELECT * FROM jobs")
        return {row["id"]: Job.from_row(row) for row in rows}


KEY = (
    "INSERT INTO api_keys (id, name, prefix, key_sha256, max_running)"
    " VALUES (:id, 'capped', 'capped', 'x', 1)"
)
TOLD = "SELECT job_id, array_agg(event) AS events FROM deliveries GROUP BY job_id"


def _is_running(job: Job) -> bool:
    return job.status is Status.RUNNING


def _is_due(job: Job) -> bool:
    return job.status is Status.QUEUED


def result_of(claim: Claim) -> Result:
    key = output_key(claim.job_id, claim.attempt, ".mp4")
    video = Artifact(key=key, content_type="video/mp4", bytes=1, sha256="0")
    return Result(ai_generated=False, artifacts={Variant.VIDEO: video})


@pytest.mark.timeout(3600)
def test_no_order_of_events_breaks_a_promise(stack: Stack) -> None:
    with contextlib.closing(JobFixture(stack.settings())) as desk:
        Lives.desk = desk
        run_state_machine_as_test(
            cast(Any, Lives),
            settings=settings(
                max_examples=EXAMPLES,
                stateful_step_count=30,
                deadline=None,
                derandomize=EXAMPLES == 30,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            ),
        )
