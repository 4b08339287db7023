"""The fence matters: without it, a zombie worker publishes its result."""

from pathlib import Path

import pytest

from shared.lifecycle import Stage, Status
from tests.chaos.faults import PAST_THE_LEASE
from tests.chaos.trial import SafeguardTrial, trial
from tests.support.processes import freeze, thaw, until
from tests.support.stack import Stack

pytestmark = [pytest.mark.extended, pytest.mark.long]

LONG = "steps=60 pause=0.1"
"""The job takes six seconds: longer than a lease, so two attempts overlap."""

ZOMBIE_FIRST = f"{LONG} again=1"
"""The second attempt takes a minute, so the zombie ends first."""


def wake_a_zombie(on: SafeguardTrial, script: str) -> None:
    """Freeze a child past its lease, and wake it while another child renders its job."""
    on.accept(script)
    (job,) = until(
        lambda: on.rows(f"stage = '{Stage.DENOISING}' AND step > 2"), "a job is rendered"
    )
    assert job.worker is not None
    place = job.worker.partition("#")[0]
    pid = on.desk.run("SELECT pid FROM workers WHERE name = :name", name=place)[0]["pid"]
    freeze(pid)
    try:
        until(
            lambda: on.rows(f"attempt > {job.attempt} AND stage = '{Stage.DENOISING}'"),
            "another worker has the job",
            within=10 * PAST_THE_LEASE,
        )
    finally:
        thaw(pid)
    until(lambda: on.rows(f"status = '{Status.SUCCEEDED}'"), "the job ends")
    until(lambda: not on.desk.run("SELECT 1 FROM deliveries WHERE status = 'pending'"), "told")


def test_a_zombie_is_fenced_and_the_newest_attempt_wins(stack: Stack, tmp_path: Path) -> None:
    with trial(stack, tmp_path, None) as on:
        wake_a_zombie(on, LONG)
        until(lambda: on.people.counted("worker", "lease_lost"), "its writes were fenced")
        assert on.audit().broken == {}


def test_without_the_fence_a_zombie_publishes_an_old_attempt(stack: Stack, tmp_path: Path) -> None:
    with trial(stack, tmp_path, "fence") as on:
        wake_a_zombie(on, ZOMBIE_FIRST)
        assert on.audit().broken == {"stale_results": 1}
