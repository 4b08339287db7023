"""Each safeguard is seen to matter: with it the audit is clean, without it the audit is not."""

import contextlib
import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import Redis

from shared.bell import queue_name
from shared.fleet import Fleet
from shared.job import Job
from shared.lifecycle import Stage, Status
from tests.chaos.audit import Findings, audit
from tests.chaos.client import Clients, Ledger
from tests.chaos.faults import PAST_THE_LEASE
from tests.chaos.ward import SETTINGS, Ward, ward
from tests.engines import ScriptedEngine
from tests.factory import Desk
from tests.processes import PATIENCE_SECONDS, freeze, thaw, until
from tests.receiver import Receiver
from tests.stack import ROOT, Stack

LONG = "steps=60 pause=0.1"
"""Six seconds: longer than a lease, so that two attempts overlap."""


HOPELESS_SECONDS = 2 * PAST_THE_LEASE
"""What is waited for in vain; with the safeguard the same takes less than a second of it."""


class Trial:
    """One safeguard on trial: a ward, a client, and an audit at the end."""

    def __init__(self, desk: Desk, ledger: Ledger, receiver: Receiver, people: Ward) -> None:
        self.desk = desk
        self.people = people
        self.clients = Clients(people.url, ledger, 1, [receiver.url("/hook")], lambda n, rng: "")
        self._ledger = ledger
        self._receiver = receiver

    def accept(self, script: str, key: str = "key") -> str:
        job_id = self.clients.insist(key, self.clients.form(script, random.Random(1)))
        assert job_id is not None
        return job_id

    def rows(self, condition: str) -> list[Job]:
        rows = self.desk.run(f"SELECT * FROM jobs WHERE {condition}")  # noqa: S608 (of this file)
        return [Job.from_row(row) for row in rows]

    def ends(self, *, within: float) -> bool:
        """Tell whether every job ends and is told in that many seconds after a worker is up."""
        unsettled = (
            "SELECT 1 FROM jobs WHERE status IN ('queued', 'running') UNION ALL"
            " SELECT 1 FROM deliveries WHERE status = 'pending'"
        )
        until(lambda: self.desk.run("SELECT 1 FROM workers"), "a worker is up")
        try:
            until(
                lambda: not self.desk.run(unsettled), "all is settled", within=4 * PAST_THE_LEASE
            )
        except AssertionError:
            return False
        return True

    def audit(self) -> Findings:
        return audit(self.desk, self._ledger, [self._receiver])


@contextlib.contextmanager
def trial(stack: Stack, folder: Path, sabotage: str | None, *names: str) -> Iterator[Trial]:
    """Start the processes named, by default all and two workers."""
    with contextlib.ExitStack() as opened:
        desk = opened.enter_context(contextlib.closing(Desk(stack.settings(**SETTINGS))))
        ledger = opened.enter_context(contextlib.closing(Ledger(folder / "ledger")))
        receiver = opened.enter_context(Receiver())
        people = opened.enter_context(ward(stack, folder / "logs", cpu_workers=1 if names else 2))
        if sabotage is not None:
            people.environment("STILLREEL_TEST_SABOTAGE", sabotage)
            people.environment("PYTHONPATH", f"{ROOT / 'tests' / 'sabotage'}{os.pathsep}{ROOT}")
        Fleet(desk.db).offer([ScriptedEngine.spec])  # The gateway takes what was ever served.
        people.start(*names)
        if not names:
            until(lambda: len(desk.run("SELECT 1 FROM workers")) == 2, "two workers are up")
        yield Trial(desk, ledger, receiver, people)


def wake_a_zombie(on: Trial) -> None:
    """Freeze a child past its lease, and wake it while another renders its job."""
    on.accept(LONG)
    (job,) = until(
        lambda: on.rows(f"stage = '{Stage.DENOISING}' AND step > 2"), "a job is rendered"
    )
    assert job.worker is not None
    place = job.worker.partition("#")[0]
    pid = on.desk.run("SELECT pid FROM workers WHERE name = :name", name=place)[0]["pid"]
    freeze(pid)
    try:
        until(
            lambda: on.rows(f"attempt = 2 AND stage = '{Stage.DENOISING}'"),
            "another worker has the job",
            within=10 * PAST_THE_LEASE,
        )
    finally:
        thaw(pid)
    until(lambda: on.rows(f"status = '{Status.SUCCEEDED}'"), "the job ends")
    until(lambda: not on.desk.run("SELECT 1 FROM deliveries WHERE status = 'pending'"), "told")


def test_a_zombie_is_fenced_and_the_newest_attempt_wins(stack: Stack, tmp_path: Path) -> None:
    with trial(stack, tmp_path, None) as on:
        wake_a_zombie(on)
        until(lambda: on.people.counted("worker", "lease_lost") == 1, "one write was fenced")
        assert on.audit().broken == {}


def test_without_the_fence_a_zombie_publishes_an_old_attempt(stack: Stack, tmp_path: Path) -> None:
    with trial(stack, tmp_path, "fence") as on:
        wake_a_zombie(on)
        assert on.audit().broken == {"stale_results": 1}


@pytest.mark.parametrize("sabotage", [None, "reaper"])
def test_the_reaper_saves_the_job_of_a_worker_that_vanished(
    stack: Stack, tmp_path: Path, sabotage: str | None
) -> None:
    with trial(stack, tmp_path, sabotage, "gateway", "keeper") as on:
        on.accept("steps=1")
        assert on.desk.jobs.claim(["scripted"], worker="vanished#1") is not None
        on.people.begin("worker")
        assert on.ends(within=PATIENCE_SECONDS if sabotage is None else HOPELESS_SECONDS) is (
            sabotage is None
        )
        assert on.audit().broken == ({} if sabotage is None else {"lost": 1})


@pytest.mark.parametrize("sabotage", [None, "bells"])
def test_the_keeper_rings_again_for_a_job_whose_bell_was_lost(
    stack: Stack, tmp_path: Path, sabotage: str | None
) -> None:
    with trial(stack, tmp_path, sabotage, "gateway", "keeper") as on:
        on.accept("steps=1")
        with Redis.from_url(on.desk.settings.redis_url.get_secret_value()) as valkey:
            until(lambda: valkey.llen(queue_name("scripted")), "the gateway has rung")
            valkey.flushall()
        on.people.begin("worker")
        assert on.ends(within=PATIENCE_SECONDS if sabotage is None else HOPELESS_SECONDS) is (
            sabotage is None
        )
        assert on.audit().broken == ({} if sabotage is None else {"lost": 1})
