"""What the gateway answers in a second, beside a bare handler on the same servers, and by route.

Run `python -m bench.gateway [--ended N] [--queued N]`. The arms take turns, so the machine's mood
is the same for both; only their ratio is worth comparing between machines. With `--ended 1000000`
the table is as it is after years.
"""

import argparse
import http.client
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final
from uuid import UUID

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from sqlalchemy import text

from bench.noop import NoopEngine
from bench.queue import program
from shared.api_keys.store import Keys
from shared.engines.registry import EngineRegistry, WorkerInfo
from tests.support.factory import JobFixture
from tests.support.many_rows import fill_ended, fill_queued
from tests.support.ports import free_port
from tests.support.stack import Servers, Stack, open_database

CONNECTIONS = (1, 8, 64)
COMPARED = {"job": "/v1/jobs/{job}", "list": "/v1/jobs?limit=20", "models": "/v1/models"}
SECONDS = 3.0
ROUNDS = 3
START_SECONDS = 60.0

# One client process for each measurement: it sends and counts, and knows nothing of the answers.
CLIENT = """
import socket, sys, threading, time
port, path, key, connections, seconds = sys.argv[1:]
request = f"GET {path} HTTP/1.1\\r\\nHost: x\\r\\nAuthorization: Bearer {key}\\r\\n\\r\\n".encode()
refused, counts, ends_at, times = [], [], time.monotonic() + float(seconds), []
def run():
    count = 0
    with socket.create_connection(("127.0.0.1", int(port))) as one:
        while time.monotonic() < ends_at:
            began = time.monotonic()
            one.sendall(request)
            answer = one.recv(1 << 20)
            if not answer.startswith(b"HTTP/1.1 200"):
                refused.append(answer[:2000])
            head, _, body = answer.partition(b"\\r\\n\\r\\n")
            length = int(head.lower().partition(b"content-length: ")[2].split()[0])
            while len(body) < length:
                body += one.recv(1 << 20)
            times.append(time.monotonic() - began)
            count += 1
    counts.append(count)
threads = [threading.Thread(target=run) for _ in range(int(connections))]
[t.start() for t in threads]; [t.join() for t in threads]
assert len(counts) == int(connections)
assert len(refused) < sum(counts) / 100, (len(refused), refused[0])
print(sum(counts) / float(seconds), sorted(times)[len(times) // 2] * 1000)
"""


TICKS: Final = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Arm:
    """A server that is asked: ours or the bare one."""

    port: int
    pid: int

    def cpu_seconds(self) -> float:
        """Return what its process has taken of the CPUs."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS


def measure(arm: Arm, path: str, key: str, connections: int) -> tuple[float, float, float]:
    """Return answers a second, the median of an answer in ms, and the server's CPU ms for one.

    The last depends least on what else the machine does.
    """
    port, before = arm.port, arm.cpu_seconds()
    arguments = [str(port), path, key, str(connections), str(SECONDS)]
    told = subprocess.run(
        [sys.executable, "-c", CLIENT, *arguments],
        capture_output=True,
        text=True,
        check=True,
        timeout=SECONDS + 60,
    )
    rate, median = map(float, told.stdout.split())
    return rate, median, (arm.cpu_seconds() - before) * 1000 / max(1.0, rate * SECONDS)


def get(port: int, path: str, key: str) -> bytes:
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=10)) as connection:
        connection.request("GET", path, headers={"Authorization": f"Bearer {key}"})
        answer = connection.getresponse()
        body = answer.read()
        assert answer.status == 200, body
        return body


@contextmanager
def gateways(
    stack: Stack, key: str, owner: UUID, job: str, folder: Path
) -> Iterator[tuple[Arm, Arm]]:
    """Run ours and the bare one; yield them once both answer alike."""
    ours, bare = free_port(), free_port()
    url = stack.settings().database_url.get_secret_value()
    env = stack.env(rate_limit="none", port=ours, log_format="json") | {
        "BARE_DATABASE_URL": url.replace("+psycopg", ""),
        "BARE_KEY": key,
        "BARE_OWNER": str(owner),
        "BARE_BODIES": str(folder / "bodies.json"),
        "PORT": str(bare),
    }
    paths = {name: path.format(job=job) for name, path in COMPARED.items()}
    with program(["api"], env, folder / "ours.log") as our_pid:
        bodies = {name: until_answers(ours, path, key) for name, path in paths.items()}
        Path(env["BARE_BODIES"]).write_text(
            json.dumps({name: json.loads(body) for name, body in bodies.items()})
        )
        with program(["bench.bare_gateway"], env, folder / "bare.log") as bare_pid:
            for name, path in paths.items():
                theirs = until_answers(bare, path, key)
                assert abs(len(theirs) - len(bodies[name])) < len(theirs) / 5, name
            yield Arm(ours, our_pid), Arm(bare, bare_pid)


def until_answers(port: int, path: str, key: str) -> bytes:
    ends_at = time.monotonic() + START_SECONDS
    while True:
        try:
            return get(port, path, key)
        except (OSError, AssertionError):
            if time.monotonic() > ends_at:
                raise
            time.sleep(0.2)


def fill(desk: JobFixture, owner: UUID, ended: int, queued: int) -> dict[str, str]:
    """Make the table as it is after years; return a job of each kind."""
    job = desk.submit(owner_id=owner, metadata={"post": "1"})
    slow = open_database(desk.settings, deadline=timedelta(hours=1))
    with closing(slow):
        with slow.begin() as connection:
            fill_ended(connection, job.id, owner, ended)
            fill_queued(connection, job.id, owner, queued // 2)
            fill_queued(connection, job.id, UUID(int=9), queued - queued // 2)
        with slow.autocommit() as connection:
            connection.execute(text("SET statement_timeout = 0"))
            connection.execute(text("VACUUM ANALYZE jobs"))
            ended_id = connection.execute(
                text("SELECT id FROM jobs WHERE status = 'succeeded' ORDER BY id DESC LIMIT 1")
            ).scalar_one()
    return {"queued": job.public_id, "ended": f"job_{ended_id.hex}"}


def serve_noop(desk: JobFixture) -> None:
    registry = EngineRegistry(desk.db)
    registry.offer([NoopEngine.spec])
    registry.beat(
        WorkerInfo(
            name="bench",
            host="here",
            pid=1,
            device="cpu",
            device_name=None,
            vram_bytes=None,
            engines=[NoopEngine.spec.name],
            resident_engine=None,
            state="ready",
            model_loads=0,
        )
    )


def beside(ours: Arm, bare: Arm, key: str, job: str, console: Console) -> None:
    heads = ("connections", "ours /s", "bare /s", "ratio", "ours CPU ms", "bare CPU ms", "ratio")
    for path in COMPARED.values():
        table = Table(*heads, title=f"GET {path.format(job='{id}')}")
        for connections in CONNECTIONS:
            pairs = [
                [measure(arm, path.format(job=job), key, connections) for arm in (ours, bare)]
                for _ in range(ROUNDS)
            ]
            rates = [(mine[0], theirs[0]) for mine, theirs in pairs]
            times = [(mine[2], theirs[2]) for mine, theirs in pairs]
            table.add_row(
                str(connections),
                *(f"{statistics.median(side):.0f}" for side in zip(*rates, strict=True)),
                f"{statistics.median(one / other for one, other in rates):.2f}",
                *(f"{statistics.median(side):.2f}" for side in zip(*times, strict=True)),
                f"{statistics.median(other / one for one, other in times):.2f}",
            )
        console.print(table)


def routes(ours: Arm, key: str, jobs: dict[str, str], console: Console) -> None:
    paths = [
        f"/v1/jobs/{jobs['ended']}",
        f"/v1/jobs/{jobs['queued']}",
        "/v1/jobs?limit=20",
        "/v1/jobs?status=failed",
        "/v1/jobs?status=queued&model=noop",
        "/v1/jobs?metadata[post]=77",
        "/v1/jobs?q=nothing",
        "/v1/models",
        "/v1/models/noop/estimate",
        "/v1/queue",
    ]
    table = Table("route", "/s", "median ms", title="one connection")
    for path in paths:
        rate, median, _ = measure(ours, path, key, 1)
        table.add_row(
            escape(path).replace(jobs["ended"], "ended").replace(jobs["queued"], "queued"),
            f"{rate:.0f}",
            f"{median:.1f}",
        )
    console.print(table)


def claims(desk: JobFixture, console: Console) -> None:
    times = []
    for _ in range(30):
        began = time.perf_counter()
        assert desk.jobs.claim([NoopEngine.spec.name], worker="bench") is not None
        times.append((time.perf_counter() - began) * 1000)
    console.print(f"claim: {statistics.median(times):.1f} ms (median of 30)")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ended", type=int, default=10_000)
    parser.add_argument("--queued", type=int, default=200)
    asked = parser.parse_args(arguments)
    console = Console()
    with tempfile.TemporaryDirectory(prefix="stillreel-bench-") as name:
        folder = Path(name)
        servers = Servers(folder, is_durable=True)
        try:
            servers.start()
            servers.migrate_template()
            run(Stack(servers, folder / "data"), asked.ended, asked.queued, folder, console)
        finally:
            servers.end()


def run(stack: Stack, ended: int, queued: int, folder: Path, console: Console) -> None:
    settings = stack.settings()
    with closing(JobFixture(settings)) as desk:
        serve_noop(desk)
        made, key = Keys(desk.db).create("bench")
        jobs = fill(desk, made.owner_id, ended, queued)
        with gateways(stack, key, made.owner_id, jobs["ended"], folder) as (ours, bare):
            beside(ours, bare, key, jobs["ended"], console)
            routes(ours, key, jobs, console)
        claims(desk, console)


if __name__ == "__main__":
    main()
