"""Measures the time from a commit to all listeners, beside a relay that only passes it on."""

import re
import selectors
import socket
import statistics
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from typing import Final, NamedTuple
from uuid import UUID

from rich.console import Console
from rich.table import Table

from bench.bare_gateway import RELAYED
from bench.gateway_arms import Arm, reading
from bench.noop import NoopEngine
from shared.bell import Bell
from shared.jobs.transitions import Claim, Progress
from shared.lifecycle import Stage
from tests.support.factory import JobFixture

LISTENERS: Final = 100
COMMITS: Final = 60
WARM_UPS: Final = 10
PAUSE_SECONDS: Final = 0.03
PATIENCE_SECONDS: Final = 30.0
_VERSION: Final = re.compile(rb'"version":(\d+)')


class Waits(NamedTuple):
    """The times in ms from the end of the commit to the middle listener and to the last one."""

    median_ms: float
    last_ms: float


class RelayBell(Bell):
    """Announces changes on the channel of the bare relay."""

    def _publish(self, body: str) -> None:
        self._redis.publish(RELAYED, body)


class TimedBell:
    """Notes each announcement and its time; the commit has ended by then."""

    def __init__(self, bell: Bell) -> None:
        self._bell = bell
        self.at, self.version = 0.0, 0

    def publish_change(self, job_id: UUID, version: int, owner_id: UUID) -> None:
        self.at, self.version = time.monotonic(), version
        self._bell.publish_change(job_id, version, owner_id)


@dataclass
class Crowd:
    """Connections that listen to one server; one thread reads each that has data."""

    selector: selectors.BaseSelector

    def heard(self, version: int) -> list[float]:
        """Return the times at which the connections had the event of this version, in order."""
        waiting = {key.fd for key in self.selector.get_map().values()}
        rests: dict[int, bytes] = {}
        times = []
        ends_at = time.monotonic() + PATIENCE_SECONDS
        while waiting:
            assert time.monotonic() < ends_at, f"{len(waiting)} listeners never heard of a commit"
            for key, _ in self.selector.select(1):
                assert isinstance(key.fileobj, socket.socket)
                got = rests.get(key.fd, b"") + key.fileobj.recv(1 << 16)
                rests[key.fd] = got[-20_000:]
                if key.fd in waiting and any(int(n) == version for n in _VERSION.findall(got)):
                    waiting.discard(key.fd)
                    times.append(time.monotonic())
        return times

    def drain(self) -> None:
        """Read all data that has arrived."""
        while self.selector.select(0.3):
            for key, _ in self.selector.select(0):
                assert isinstance(key.fileobj, socket.socket)
                key.fileobj.recv(1 << 16)


@contextmanager
def crowd(arm: Arm, path: str, key: str) -> Iterator[Crowd]:
    with ExitStack() as opened:
        selector = opened.enter_context(closing(selectors.DefaultSelector()))
        for _ in range(LISTENERS):
            one = opened.enter_context(socket.create_connection(("127.0.0.1", arm.port)))
            one.sendall(reading(path, key))
            answer = one.recv(1 << 16)
            assert answer.startswith(b"HTTP/1.1 200"), answer[:500]
            selector.register(one, selectors.EVENT_READ)
        listening = Crowd(selector)
        listening.drain()
        yield listening


def listeners(
    ours: Arm, bare: Arm, key: str, owner: UUID, desk: JobFixture, console: Console
) -> None:
    """Print the times of both arms from the commit of a job's progress to each listener."""
    table = Table(
        *("stream", "ours, median ms", "bare", "ratio", "ours, last ms", "bare", "ratio"),
        title=f"commit to {LISTENERS} listeners, {COMMITS} commits each in turns",
    )
    claim = _running_job(desk, owner)
    job = f"/v1/jobs/job_{claim.job_id.hex}/events"
    for name, path in (("all jobs", "/v1/events"), ("one job", job)):
        with ExitStack() as opened:
            crowds = [opened.enter_context(crowd(arm, path, key)) for arm in (ours, bare)]
            pairs = _in_turns(desk, claim, crowds)
        cells = []
        for part in range(2):
            sides = [[pair[side][part] for pair in pairs] for side in (0, 1)]
            cells += [f"{statistics.median(side):.1f}" for side in sides]
            cells.append(
                f"{statistics.median(one / two for one, two in zip(*sides, strict=True)):.2f}"
            )
        table.add_row(name, *cells)
    console.print(table)


def _running_job(desk: JobFixture, owner: UUID) -> Claim:
    """Return the claim of a job of this owner; its beats are the commits."""
    while True:
        claimed = desk.jobs.claim([NoopEngine.spec.name], worker="bench")
        assert claimed is not None
        if claimed.owner_id == owner:
            return Claim(claimed.id, claimed.attempt)


def _in_turns(desk: JobFixture, claim: Claim, crowds: list[Crowd]) -> list[tuple[Waits, Waits]]:
    url = desk.settings.redis_url.get_secret_value()
    with closing(Bell(url)) as own, closing(RelayBell(url)) as other:
        bells = [TimedBell(own), TimedBell(other)]
        pairs = []
        for number in range(WARM_UPS + COMMITS):
            pair = tuple(
                _wait(desk, claim, number, bell, listening)
                for bell, listening in zip(bells, crowds, strict=True)
            )
            if number >= WARM_UPS:
                pairs.append((pair[0], pair[1]))
    return pairs


def _wait(desk: JobFixture, claim: Claim, number: int, bell: TimedBell, heard_by: Crowd) -> Waits:
    time.sleep(PAUSE_SECONDS)
    desk.jobs._announcer = bell
    step = Progress(stage=Stage.DENOISING, step=number, total_steps=1000)
    desk.jobs.beat(claim, step)
    times = heard_by.heard(bell.version)
    waits = [(at - bell.at) * 1000 for at in times]
    return Waits(statistics.median(waits), max(waits))
