"""With Redis frozen, gone, read-only or full, jobs start within two seconds and drains work."""

import contextlib
import json
import signal
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest
from redis import Redis

from shared.jobs.job import Job
from shared.lifecycle import Status
from tests.integration.worker.test_worker import SETTINGS, Bench, open_bench
from tests.support.processes import Program, until
from tests.support.stack import Stack

pytestmark = [pytest.mark.long, pytest.mark.timeout(400)]

PROMISED = timedelta(seconds=2)
LATE = timedelta(seconds=1.5)
"""The delay that a busy machine may add, because the tests of a whole run share two cores."""


@pytest.fixture
def bench(stack: Stack, tmp_path: Path) -> Iterator[Bench]:
    with open_bench(stack, tmp_path) as bench:
        yield bench


@pytest.fixture(scope="module")
def served(module_stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """One worker, for tests that do not harm it."""
    with open_bench(module_stack, tmp_path_factory.mktemp("served")) as bench:
        up(bench)
        yield bench


def hearing(bench: Bench) -> Program:
    """Return the worker once it hears bells again, if an earlier test had an outage."""
    worker = bench.people.first

    def hears() -> bool:
        said = worker.text()
        return said.count("bells_lost") == said.count("bells_heard_again")

    until(hears, "the worker hears")
    return worker


def up(bench: Bench, **settings: Any) -> Program:
    """Start a worker and wait until it has looked once."""
    worker = bench.people.worker(**SETTINGS | settings)
    until(bench.card, "the worker is up")
    assert bench.ended(bench.render()).status is Status.SUCCEEDED
    return worker


def refuse_writes(valkey: Redis) -> None:
    valkey.config_set("min-replicas-to-write", 1)


def follow_nobody(valkey: Redis) -> None:
    valkey.replicaof("127.0.0.1", "9")


def fill(valkey: Redis) -> None:
    valkey.config_set("maxmemory-policy", "noeviction")
    valkey.config_set("maxmemory", 1)


def mend(valkey: Redis) -> None:
    valkey.replicaof("NO", "ONE")
    valkey.config_set("min-replicas-to-write", 0)
    valkey.config_set("maxmemory", 0)


REFUSALS: dict[str, Callable[[Redis], None]] = {
    "no replica to write to": refuse_writes,
    "read-only": follow_nobody,
    "full": fill,
}


@contextlib.contextmanager
def outage(stack: Stack, kind: str) -> Iterator[None]:
    if kind in REFUSALS:
        with Redis.from_url(stack.settings().redis_url.get_secret_value()) as valkey:
            REFUSALS[kind](valkey)
            try:
                yield
            finally:
                mend(valkey)
        return
    getattr(stack.valkey, kind)()
    try:
        yield
    finally:
        stack.valkey.heal()


def waited(job: Job) -> timedelta:
    assert job.started_at is not None
    return job.started_at - job.created_at


@pytest.mark.parametrize(
    "kind",
    [
        "freeze",
        # These give another error with the same result. Each storm also has a read-only Redis.
        *(
            pytest.param(kind, marks=pytest.mark.extended)
            for kind in ("kill", "read-only", "no replica to write to", "full")
        ),
    ],
)
def test_a_job_starts_within_two_seconds_while_redis_is_away(served: Bench, kind: str) -> None:
    worker = hearing(served)
    before = len(worker.text())
    with outage(served.people.stack, kind):
        jobs = [served.ended(served.render(seed=number)) for number in range(4)]
        assert {job.status for job in jobs} == {Status.SUCCEEDED}
        assert {job.failures for job in jobs} == {0}
        assert max(waited(job) for job in jobs) < PROMISED + LATE
    lines = worker.text()[before:].splitlines()
    events = [json.loads(line)["event"] for line in lines if line[:1] == "{"]
    # There is one line for an outage, and not one for each second.
    assert events.count("bells_lost") <= 1


@pytest.mark.extended
def test_a_worker_that_starts_without_redis_serves(bench: Bench) -> None:
    with outage(bench.people.stack, "kill"):
        up(bench)


def test_bells_are_heard_again_when_redis_is_back(served: Bench) -> None:
    worker = hearing(served)
    before = len(worker.text())
    with outage(served.people.stack, "kill"):
        until(lambda: "bells_lost" in worker.text()[before:], "the worker notices")
    until(lambda: "bells_heard_again" in worker.text()[before:], "and hears again")


def everybody(*programs: Program) -> list[psutil.Process]:
    """Return these programs and all processes that they started, as a service manager would."""
    mains = [psutil.Process(program.pid) for program in programs]
    return [process for main in mains for process in (main, *main.children(recursive=True))]


def end_at_once(*programs: Program) -> None:
    for process in everybody(*programs):
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(signal.SIGTERM)
    for program in programs:
        assert program.process.wait(60) == 0


# In `make test`, test_worker.py drains one worker by a signal to it alone.
@pytest.mark.extended
@pytest.mark.parametrize("redis", ["frozen", "there"])
@pytest.mark.parametrize(
    ("script", "drain_seconds", "becomes"),
    [
        ("steps=3000 pause=0.05", 5, Status.QUEUED),
        ("steps=40 pause=0.05", 40, Status.SUCCEEDED),
        # A step of minutes ends with its process, and no failure is charged.
        ("steps=2 pause=600", 1, Status.QUEUED),
    ],
)
def test_a_signal_to_all_processes_at_once_finishes_or_hands_back(
    bench: Bench, redis: str, script: str, drain_seconds: float, becomes: Status
) -> None:
    worker = up(bench, drain_seconds=drain_seconds, lease_seconds=600)
    keeper = bench.people.keeper(**SETTINGS)
    until(lambda: "keeper_ready" in keeper.text(), "the keeper is up")
    with contextlib.ExitStack() as opened:
        if redis == "frozen":
            opened.enter_context(outage(bench.people.stack, "freeze"))
        job = bench.render(script)
        until(lambda: bench.when(job, lambda now: now.status is Status.RUNNING), "it is rendered")
        if "600" not in script:
            bench.denoising(job)
        end_at_once(worker, keeper)
        now = bench.get(job)
        assert (now.status, now.failures) == (becomes, 0)


@pytest.mark.extended
def test_a_signal_to_celery_alone_drains_its_child_and_another_comes_up(bench: Bench) -> None:
    worker = up(bench)
    job = bench.render("steps=3000 pause=0.05")
    bench.denoising(job)
    [main] = psutil.Process(worker.pid).children()
    main.terminate()
    main.wait(60)
    done = until(
        lambda: bench.when(job, lambda now: now.attempt == 2), "a fresh worker takes the job"
    )
    assert done.failures == 0


def test_an_idle_worker_looks_with_one_indexed_query(bench: Bench) -> None:
    """Ten thousand ended jobs, and as many of another engine, do not slow it down."""
    from shared.jobs import sql

    job = bench.submit()
    bench.run("DELETE FROM jobs WHERE id <> :id", id=job.id)
    columns = [row["column_name"] for row in bench.run(COLUMNS)]
    rest = ", ".join(name for name in columns if name != "id")
    for number, status in enumerate(("failed", "queued")):
        values = rest.replace("status", f"'{status}'").replace("error_code", "'x'")
        bench.run(
            f"INSERT INTO jobs (id, {rest}) SELECT gen_random_uuid(), {values} FROM jobs,"  # noqa: S608
            f" generate_series(1, 10000) WHERE id = :id AND {number} IS NOT NULL",
            id=job.id,
        )
    bench.run("ANALYZE jobs")
    asked = {
        "engines": ["scripted", "camera"],
        "worker": "w#1",
        "lease": timedelta(seconds=60),
        "card_bytes": None,
        "max_running": None,
        "honours": "{}",
        "others": ["camera"],
        "resident": "scripted",
        "may_swap": True,
        "patience": timedelta(seconds=60),
    }
    [row] = bench.run(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {sql.CLAIM.text}", **asked)
    [plan] = row["QUERY PLAN"]
    # A scan of the few rows of pauses and keys is allowed, because it is the quickest way.
    assert [node for node in nodes(plan["Plan"]) if is_scan_of_jobs(node)] == []
    assert plan["Plan"]["Shared Hit Blocks"] + plan["Plan"]["Shared Read Blocks"] < 200


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for part in plan.get("Plans", ()):
        yield from nodes(part)


def is_scan_of_jobs(node: dict[str, Any]) -> bool:
    return node["Node Type"] == "Seq Scan" and node["Relation Name"] == "jobs"


COLUMNS = "SELECT column_name FROM information_schema.columns WHERE table_name = 'jobs'"
