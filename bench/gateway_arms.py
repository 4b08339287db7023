"""The two servers that are asked in turns, and the client process that asks them."""

import http.client
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from uuid import UUID

from rich.table import Table

from bench.queue import program
from tests.support.ports import free_port
from tests.support.stack import Stack

COMPARED: Final = {"job": "/v1/jobs/{job}", "list": "/v1/jobs?limit=20", "models": "/v1/models"}
SECONDS: Final = 3.0
ROUNDS: Final = 3
START_SECONDS: Final = 60.0
TICKS: Final = os.sysconf("SC_CLK_TCK")
HEADS: Final = (
    "connections",
    "ours /s",
    "bare /s",
    "ratio",
    "ours CPU ms",
    "bare CPU ms",
    "ratio",
)

# Each measurement has one client process, which sends and counts and does not read the answers.
CLIENT = """
import socket, sys, threading, time
port, connections, seconds, wanted = sys.argv[1:]
request = sys.stdin.buffer.read()
refused, counts, ends_at, times = [], [], time.monotonic() + float(seconds), []
def run():
    count = 0
    with socket.create_connection(("127.0.0.1", int(port))) as one:
        while time.monotonic() < ends_at:
            began = time.monotonic()
            one.sendall(request)
            answer = one.recv(1 << 20)
            if not answer.startswith(b"HTTP/1.1 " + wanted.encode()):
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


@dataclass(frozen=True)
class Arm:
    """A server that is measured: ours or the bare one."""

    port: int
    pid: int

    def cpu_seconds(self) -> float:
        """Return the CPU seconds of its process, without those of its children."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS


@dataclass(frozen=True)
class Measured:
    """Answers a second, the median time of one in ms, and the server's CPU ms for one.

    Other load of the machine changes the CPU time least.
    """

    rate: float
    median_ms: float
    cpu_ms: float


def reading(path: str, key: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\n\r\n".encode()


def measure(
    arm: Arm, request: bytes, connections: int, *, status: int = 200, seconds: float = SECONDS
) -> Measured:
    """Send the request again and again for this time, and wait for each answer."""
    before = arm.cpu_seconds()
    told = subprocess.run(
        [sys.executable, "-c", CLIENT, str(arm.port), str(connections), str(seconds), str(status)],
        input=request,
        capture_output=True,
        check=False,
        timeout=seconds + 60,
    )
    if told.returncode:
        raise RuntimeError(told.stderr.decode()[-3000:])
    rate, median = map(float, told.stdout.split())
    cpu = arm.cpu_seconds() - before
    return Measured(rate, median, cpu * 1000 / max(1.0, rate * seconds))


def add_turns(
    table: Table, name: str, turn: Callable[[], tuple[Measured, Measured]], rounds: int = ROUNDS
) -> None:
    """Add a row with both arms' results and the median of the ratios of the rounds."""
    pairs = [turn() for _ in range(rounds)]
    table.add_row(
        name,
        *(f"{statistics.median(pair[side].rate for pair in pairs):.0f}" for side in (0, 1)),
        f"{statistics.median(ours.rate / bare.rate for ours, bare in pairs):.2f}",
        *(f"{statistics.median(pair[side].cpu_ms for pair in pairs):.2f}" for side in (0, 1)),
        f"{statistics.median(bare.cpu_ms / ours.cpu_ms for ours, bare in pairs):.2f}",
    )


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
    """Run ours and the bare one; yield them when both give equal answers."""
    ours, bare = free_port(), free_port()
    url = stack.settings().database_url.get_secret_value()
    env = stack.env(
        rate_limit="none", port=ours, log_format="json", max_queued_per_key=1_000_000
    ) | {
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
