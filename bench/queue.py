"""Measures how long a job waits on an idle machine, beside plain Celery on the same servers.

Run `python -m bench.queue`. Both arms insert one durable row and send one message; both note the
start by Postgres' clock. They take turns, so that other load of the machine meets both.
"""

import argparse
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import psycopg
from rich.console import Console
from rich.table import Table

from bench import plain_celery
from bench.noop import NoopEngine
from shared.bell import Bell
from tests.support.factory import JobFixture
from tests.support.servers import running_servers
from tests.support.stack import Stack

ROOT = Path(__file__).parents[1]
PATIENCE_SECONDS = 60.0
PAUSE_SECONDS = 0.05
WARM_UPS = 5


@contextmanager
def program(module: list[str], env: dict[str, str], log: Path) -> Iterator[int]:
    """Run `python -m …` until the block ends; yield the process id."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", *module], cwd=ROOT, env=env, stdout=output, stderr=output
        )
        try:
            yield process.pid
        finally:
            process.terminate()
            process.wait(timeout=PATIENCE_SECONDS)


def until(probe: Callable[[], bool]) -> None:
    ends_at = time.monotonic() + PATIENCE_SECONDS
    while not probe():
        if time.monotonic() > ends_at:
            raise TimeoutError("a job did not start within a minute; see the logs")
        time.sleep(0.01)


def ours(desk: JobFixture, bell: Bell, image: np.ndarray) -> float:
    """Submit one job as the gateway does; return the ms from accepted to started."""
    job = desk.submit(image=image)
    bell.ring(NoopEngine.spec.name)
    until(lambda: desk.get(job).is_terminal)
    done = desk.get(job)
    assert done.started_at is not None
    return (done.started_at - done.created_at).total_seconds() * 1000


def plain(connection: psycopg.Connection) -> float:
    """Do the same with plain Celery."""
    row = connection.execute(plain_celery.INSERT).fetchone()
    assert row is not None
    plain_celery.start.delay(row[0])
    query = "SELECT started_at, created_at FROM plain WHERE id = %s AND started_at IS NOT NULL"
    until(lambda: connection.execute(query, row).fetchone() is not None)
    times = connection.execute(query, row).fetchone()
    assert times is not None
    return float((times[0] - times[1]).total_seconds() * 1000)


def measure(stack: Stack, rounds: int, folder: Path) -> tuple[list[float], list[float]]:
    """Return the waits of both arms in ms; the arms took turns."""
    settings = stack.settings(engines="noop=bench.noop:NoopEngine")
    bell = Bell(settings.redis_url.get_secret_value())
    desk = JobFixture(settings, bell)
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    connection = psycopg.connect(os.environ["PLAIN_DATABASE_URL"], autocommit=True)
    connection.execute(plain_celery.TABLE)
    env = stack.env(engines="noop=bench.noop:NoopEngine")
    celery = ["celery", "--app", "bench.plain_celery", "worker", "--queues", "celery"]
    waits: tuple[list[float], list[float]] = ([], [])
    with (
        program(["worker"], env, folder / "ours.log"),
        program(celery, env, folder / "plain.log"),
    ):
        for number in range(rounds + WARM_UPS):
            for arm, act in zip(
                waits,
                (lambda: ours(desk, bell, image), lambda: plain(connection)),
                strict=True,
            ):
                wait = act()
                if number >= WARM_UPS:
                    arm.append(wait)
                time.sleep(PAUSE_SECONDS)
    bell.close()
    desk.close()
    connection.close()
    return waits


def show(waits: tuple[list[float], list[float]]) -> None:
    table = Table(title=f"accepted -> started, ms, {platform.machine()}, {os.cpu_count()} cores")
    for heading in ("arm", "jobs", "p50", "p95", "max"):
        table.add_column(heading, justify="right")
    for name, arm in zip(("stillreel", "plain celery"), waits, strict=True):
        p95 = statistics.quantiles(arm, n=20)[-1]
        figures = (f"{value:.1f}" for value in (statistics.median(arm), p95, max(arm)))
        table.add_row(name, str(len(arm)), *figures)
    ratio = statistics.median(waits[0]) / statistics.median(waits[1])
    console = Console()
    console.print(table)
    console.print(f"ratio of medians, ours to plain: {ratio:.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=100)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory(prefix="stillreel-bench-") as name:
        folder = Path(name)
        with running_servers(folder, is_durable=True) as servers:
            stack = Stack(servers, folder / "data")
            settings = stack.settings()
            url = settings.database_url.get_secret_value()
            os.environ["PLAIN_DATABASE_URL"] = url.replace("postgresql+psycopg", "postgresql")
            plain_celery.app.conf.broker_url = settings.redis_url.get_secret_value()
            os.environ["PLAIN_REDIS_URL"] = plain_celery.app.conf.broker_url
            show(measure(stack, rounds, folder))


if __name__ == "__main__":
    main()
