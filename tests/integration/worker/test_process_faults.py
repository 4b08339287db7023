"""Each fault of a worker process ends with the right code, and restarts only what it must."""

import os
import resource
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from shared.lifecycle import Status
from tests.integration.worker.test_worker import SETTINGS, Bench, open_bench
from tests.support.processes import Program, until
from tests.support.stack import ROOT, Stack

pytestmark = [pytest.mark.extended, pytest.mark.long]

KILLS = int(os.environ.get("REPLACEMENT_KILLS", "1"))
IMPATIENT = {"STILLREEL_TEST_SABOTAGE": "patience", "PYTHONPATH": f"{ROOT}/tests/sabotage:{ROOT}"}


@pytest.fixture
def bench(stack: Stack, tmp_path: Path) -> Iterator[Bench]:
    with open_bench(stack, tmp_path) as bench:
        yield bench


# Threads and ffmpeg's pipes still fit into this, but not the four gigabytes of `hoard`.
HEADROOM = 2**30


def child(bench: Bench) -> psutil.Process:
    """Return the pool child that serves now."""
    return psutil.Process(until(bench.card, "a worker is up")["pid"])


def test_a_hung_step_is_killed_and_the_job_is_tried_again(bench: Bench, tmp_path: Path) -> None:
    env = bench.people.stack.env(**SETTINGS) | IMPATIENT | {"STILLREEL_TEST_MARKS": str(tmp_path)}
    worker = Program("worker", env, tmp_path / "worker.log")
    try:
        before = child(bench)
        job = bench.ended(bench.render("once:hang steps=2"))
        assert (job.status, job.attempt, job.failures) == (Status.SUCCEEDED, 2, 1)
        assert child(bench).pid != before.pid
        assert "child_hangs" in worker.text()
    finally:
        worker.kill()


@pytest.mark.timeout(120 + 60 * KILLS)
def test_a_replacement_that_loads_for_ten_seconds_comes_up_each_time(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STILLREEL_TEST_LOAD_SECONDS", "10")
    bench.people.worker(**SETTINGS)
    pids = {child(bench).pid}
    for number in range(KILLS):
        child(bench).kill()
        until(lambda: bench.card()["pid"] not in pids, "another child came up")
        pids.add(child(bench).pid)
        assert bench.ended(bench.render("steps=1", seed=number)).status is Status.SUCCEEDED
    assert len(pids) == KILLS + 1


@pytest.mark.parametrize("limited", [resource.RLIMIT_FSIZE, resource.RLIMIT_NOFILE])
def test_a_full_disk_or_no_file_handles_fail_the_job_and_are_forgiven(
    bench: Bench, limited: int
) -> None:
    bench.people.worker(**SETTINGS | {"max_attempts": 1})
    process = child(bench)
    assert bench.ended(bench.render(seed=1)).status is Status.SUCCEEDED
    soft, hard = resource.prlimit(process.pid, limited)
    small = 1024 if limited == resource.RLIMIT_FSIZE else process.num_fds()
    resource.prlimit(process.pid, limited, (small, hard))
    failed = bench.ended(bench.render(seed=2))
    assert failed.status is Status.FAILED
    assert failed.error_retryable
    resource.prlimit(process.pid, limited, (soft, hard))
    assert bench.ended(bench.render(seed=3)).status is Status.SUCCEEDED
    assert child(bench).pid == process.pid


def test_a_render_beyond_its_memory_fails_and_the_next_one_is_served(bench: Bench) -> None:
    bench.people.worker(**SETTINGS | {"max_attempts": 1})
    process = child(bench)
    assert bench.ended(bench.render(seed=1)).status is Status.SUCCEEDED
    soft, hard = resource.prlimit(process.pid, resource.RLIMIT_AS)
    resource.prlimit(process.pid, resource.RLIMIT_AS, (process.memory_info().vms + HEADROOM, hard))
    failed = bench.ended(bench.render("hoard"))
    assert (failed.status, failed.error_code) == (Status.FAILED, "internal")
    resource.prlimit(process.pid, resource.RLIMIT_AS, (soft, hard))
    assert bench.ended(bench.render(seed=3)).status is Status.SUCCEEDED
