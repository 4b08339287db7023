"""Test one safeguard: with it the audit is clean, and without it the audit is not."""

import contextlib
import os
import random
from collections.abc import Iterator
from pathlib import Path

from shared.engines.registry import EngineRegistry
from shared.jobs.job import Job
from tests.chaos.audit import Findings, audit
from tests.chaos.client import Clients, Ledger
from tests.chaos.faults import PAST_THE_LEASE
from tests.chaos.ward import SETTINGS, Service, ward
from tests.support.engines import ScriptedEngine
from tests.support.factory import JobFixture
from tests.support.processes import until
from tests.support.receiver import Receiver
from tests.support.stack import ROOT, Stack

HOPELESS_SECONDS = 2 * PAST_THE_LEASE
"""How long a test waits for what must not happen; with the safeguard it takes under a second."""


class SafeguardTrial:
    """A test of one safeguard: a ward, a client, and an audit at the end."""

    def __init__(
        self, job_fixture: JobFixture, ledger: Ledger, receiver: Receiver, people: Service
    ) -> None:
        self.desk = job_fixture
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
        """Return whether every job ends and is told within this time after a worker is up."""
        unsettled = (
            "SELECT 1 FROM jobs WHERE status IN ('queued', 'running') UNION ALL"
            " SELECT 1 FROM deliveries WHERE status = 'pending'"
        )
        until(lambda: self.desk.run("SELECT 1 FROM workers"), "a worker is up")
        try:
            until(lambda: not self.desk.run(unsettled), "all is settled", within=within)
        except AssertionError:
            return False
        return True

    def audit(self) -> Findings:
        return audit(self.desk, self._ledger, [self._receiver])


@contextlib.contextmanager
def trial(
    stack: Stack, folder: Path, sabotage: str | None, *names: str
) -> Iterator[SafeguardTrial]:
    """Start the named processes; without names, start all of them and two workers."""
    with contextlib.ExitStack() as opened:
        desk = opened.enter_context(contextlib.closing(JobFixture(stack.settings(**SETTINGS))))
        ledger = opened.enter_context(contextlib.closing(Ledger(folder / "ledger")))
        receiver = opened.enter_context(Receiver())
        people = opened.enter_context(ward(stack, folder / "logs", cpu_workers=1 if names else 2))
        people.environment("STILLREEL_TEST_MARKS", str(folder))
        if sabotage is not None:
            people.environment("STILLREEL_TEST_SABOTAGE", sabotage)
            people.environment("PYTHONPATH", f"{ROOT / 'tests' / 'sabotage'}{os.pathsep}{ROOT}")
        EngineRegistry(desk.db).offer(
            [ScriptedEngine.spec]
        )  # The gateway accepts jobs for every engine that was ever served.
        people.start(*names)
        if not names:
            until(lambda: len(desk.run("SELECT 1 FROM workers")) == 2, "two workers are up")
        yield SafeguardTrial(desk, ledger, receiver, people)
