"""The worker and the gateway are killed and stopped at each crash point of a remote job.

A paid provider sees at most one create for a job, no job succeeds twice, and no job is lost.
"""

import contextlib
import os
import re
import signal
import sys
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import psutil
import pytest
import requests

from shared.crashpoints import GATEWAY, KEEPER, POINTS, REMOTE, SUPERVISOR
from shared.jobs.job import Job
from shared.lifecycle import Stage, Status
from shared.owners import ANONYMOUS
from tests.chaos.audit import audit
from tests.chaos.client import Ledger
from tests.chaos.elsewhere import ENGINES, OWN, PAID, Client, House, open_shops
from tests.support.processes import Program, until
from tests.support.providers.service import KEY
from tests.support.stack import ROOT, Stack

pytestmark = [pytest.mark.timeout(600)]

ROOMS = ("api", "worker", "shared")
PURCHASE = ("remote_intended", "remote_made", "remote_kept")
DONE = (Status.SUCCEEDED, None)
UNKNOWN = (Status.FAILED, "remote_outcome_unknown")
FAILED = (Status.FAILED, None)
CANCELED = (Status.CANCELED, None)


@dataclass(frozen=True)
class Fate:
    """What becomes of a job whose process dies at a point.

    `paid` is the end of a job at a paid provider, and `own` the end at the operator's own back
    ends. `bought` is the number of creates that a provider has seen. `word` in the prompt makes
    the job pass the point. If `alone` is set, a thread that waits at the point blocks the others.
    """

    paid: tuple[Status, str | None] = DONE
    own: tuple[Status, str | None] = DONE
    bought: int = 1
    word: str = "steam"
    alone: bool = False


WORKER = MappingProxyType(
    {
        "claimed": Fate(),
        "loaded": Fate(),
        "step": Fate(),
        "remote_intended": Fate(paid=UNKNOWN, bought=0),
        "remote_made": Fate(paid=UNKNOWN),
        "remote_kept": Fate(),
        "remote_looked": Fate(),
        "remote_downloading": Fate(),
        "remote_downloaded": Fate(),
        "rendered": Fate(),
        "before_settle": Fate(paid=FAILED, own=FAILED, word="fail"),
        "after_settle": Fate(paid=FAILED, own=FAILED, word="fail"),
        "lease_let_go": Fate(paid=CANCELED, own=CANCELED, word="hold"),
        "muxed": Fate(),
        "before_upload": Fate(),
        "after_upload": Fate(),
        "completed": Fate(),
        "complete_before_commit": Fate(),
        "claim_before_commit": Fate(alone=True),
    }
)
SUBMITS = MappingProxyType(
    {
        "image_stored": Fate(),
        "submit_after_commit": Fate(),
        "bell_rung": Fate(),
        "submit_before_commit": Fate(alone=True),
    }
)
CANCELS = MappingProxyType(
    {
        "cancel_after_commit": Fate(paid=CANCELED, own=CANCELED, word="hold"),
        "cancel_before_commit": Fate(paid=CANCELED, own=CANCELED, word="hold"),
    }
)


def test_every_point_is_in_the_matrix() -> None:
    """Only the keeper's points are missing: it takes back late leases and asks no other server."""
    driven = {*WORKER, *SUBMITS, *CANCELS, *SUPERVISOR}
    code = [path.read_text() for room in ROOMS for path in (ROOT / room).rglob("*.py")]
    placed = {name for text in code for name in re.findall(r'crashpoint\("(\w+)"\)', text)}
    assert driven | set(KEEPER) == placed == {*POINTS, *REMOTE}
    assert {*SUBMITS, *CANCELS} == set(GATEWAY)


@contextlib.contextmanager
def open_house(stack: Stack, folder: Path) -> Iterator[House]:
    with open_shops() as shops, contextlib.closing(House(stack, folder, shops)) as house:
        try:
            yield house
        except BaseException:
            sys.stderr.write(house.logs())
            raise


class Matrix:
    """Jobs that were at a point when their process ended, and the end that each must have."""

    def __init__(self, house: House) -> None:
        self.house = house
        self._stood: dict[str, tuple[str, str, Fate]] = {}
        self._turn = 0

    def prompt(self, manner: str, point: str, engine: str, fate: Fate) -> str:
        prompt = f"{fate.word} {manner} {point} {engine}"
        self._stood[prompt] = (engine, manner, fate)
        return prompt

    def engines(self, fate: Fate) -> tuple[str, ...]:
        """Return the engines that get a job; if `alone`, only one, each time another."""
        self._turn += 1
        return (ENGINES[self._turn % len(ENGINES)],) if fate.alone else ENGINES

    def stand_at_each(
        self, manner: str, points: Iterable[str] = WORKER, only: Collection[str] = ENGINES
    ) -> None:
        """Make jobs of a worker wait at each of its points."""
        for point in points:
            fate = WORKER[point]
            engines = [each for each in self.engines(fate) if each in only]
            asked = self.house.points.ask(point, len(engines))
            prompts = [self.prompt(manner, point, engine, fate) for engine in engines]
            jobs = list(map(self.house.order, engines, prompts))
            if fate.paid == CANCELED:
                self.cancel(jobs)
            self.house.points.wait(asked, f"{manner}: jobs stand at {point}")

    def cancel(self, jobs: list[Job]) -> None:
        for job in jobs:
            self.house.at(job, Stage.RENDERING_ELSEWHERE)
        for job in jobs:
            self.house.desk.jobs.cancel(job.id, owner_id=ANONYMOUS)

    def check(self, manner: str) -> None:
        """Wait until all jobs have ended, and compare each job of one manner with its fate."""
        rows = {row["prompt"]: row for row in self.house.all_ended()}
        creates = self.house.shops.creates()
        for prompt, (engine, how, fate) in self._stood.items():
            if how == manner:
                is_lenient = manner in LENIENT
                check_end(rows[prompt], fate, engine, is_lenient=is_lenient)
                check_creates(
                    creates[engine][prompt], fate, engine, is_lenient=is_lenient, of=prompt
                )


LENIENT = frozenset({"stopped", "gateway-SIGKILL", "gateway-SIGTERM"})
"""Manners in which the worker goes on from each point: it keeps the answer of every create."""


def check_end(row: Any, fate: Fate, engine: str, *, is_lenient: bool) -> None:
    status, code = fate.paid if engine in PAID else fate.own
    if is_lenient and code == UNKNOWN[1]:
        status, code = DONE
    assert row["status"] == status, (row["prompt"], row["error_code"], row["error_message"])
    if code is not None or status is Status.SUCCEEDED:
        assert row["error_code"] == code, row["prompt"]
    if is_lenient:
        assert row["failures"] == 0, f"{row['prompt']}: a drain charges nothing"


def check_creates(count: int, fate: Fate, engine: str, *, is_lenient: bool, of: str) -> None:
    if engine in PAID:
        assert count == (1 if is_lenient else fate.bought), of
    else:
        assert count in ((1,) if is_lenient else (1, 2)), of


def test_a_worker_that_dies_around_a_purchase_buys_nothing_twice(
    stack: Stack, tmp_path: Path
) -> None:
    with open_house(stack, tmp_path) as house:
        matrix = Matrix(house)
        worker = house.start("worker")
        matrix.stand_at_each("dying", PURCHASE, PAID)
        os.kill(child_of(house, worker), signal.SIGKILL)
        house.points.let_go()
        matrix.check("dying")
        spent = {
            row["engine"]: (row["reserved_micros"], row["cost_micros"])
            for row in house.desk.run("SELECT * FROM usage_days")
        }
        # Two jobs with an unknown end count with their price. fal's third job does so too; Runway
        # reported the cost of its third.
        assert spent == {"gen": (450_000, 450_000), "pika": (300_000, 300_000)}
        told = {row["prompt"]: row for row in house.all_ended()}
        kept = told["steam dying remote_kept gen"]
        assert (kept["attempt"], kept["failures"]) == (2, 0), (
            "a death before it was kept is forgiven"
        )
        assert (
            "may have begun and charged" in told["steam dying remote_made pika"]["error_message"]
        )
        clip = house.desk.storage.get(kept["result"]["artifacts"]["video"]["key"])
        places = {
            "the tables": dump_of(house),
            "the logs": house.text(),
            "the arguments": arguments(),
            "the clip": clip.decode("latin-1"),
        }
        assert {place for place, text in places.items() if KEY in text} == set()


def dump_of(house: House) -> str:
    names = house.desk.run("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    rows = [
        house.desk.run(f"SELECT to_jsonb(t)::text AS row FROM {name['tablename']} t")  # noqa: S608
        for name in names
    ]
    return "\n".join(row["row"] for table in rows for row in table)


def arguments() -> str:
    return "\n".join(
        " ".join(process.info["cmdline"] or []) for process in psutil.process_iter(["cmdline"])
    )


@pytest.mark.long
@pytest.mark.extended
def test_whatever_dies_at_whichever_point_nothing_is_bought_twice_or_lost(
    stack: Stack, tmp_path: Path
) -> None:
    ledger = Ledger(tmp_path / "ledger")
    with contextlib.closing(ledger), open_house(stack, tmp_path) as house:
        matrix = Matrix(house)
        house.start("worker.keeper")
        kill_child_and_supervisor(matrix, SUPERVISOR[0], WORKER)
        kill_child_and_supervisor(matrix, SUPERVISOR[1], PURCHASE)
        stop_worker(matrix)
        for number in (signal.SIGKILL, signal.SIGTERM):
            end_gateway(matrix, ledger, number)
        rows = house.all_ended()
        assert audit(house.desk, ledger, []).broken == {}
        counts = house.desk.run("SELECT sum(succeeded)::int AS done FROM usage_days")
        assert counts[0]["done"] == sum(row["status"] == "succeeded" for row in rows)
        asked = house.shops.creates()
        assert {n for name in PAID for n in asked[name].values()} == {1}
        canceled = {r["prompt"] for r in rows if r["status"] == "canceled" and r["engine"] != OWN}
        until(lambda: canceled <= house.shops.canceled(), "every cancel reaches its provider")
        assert KEY not in house.text()


def kill_child_and_supervisor(matrix: Matrix, point: str, points: Iterable[str]) -> None:
    """Kill the child; the supervisor notices this, waits at a point of its own, and dies too."""
    house = matrix.house
    worker = house.start("worker")
    matrix.stand_at_each(point, points)
    asked = house.points.ask(point)
    os.kill(child_of(house, worker), signal.SIGKILL)
    house.points.wait(asked, f"the supervisor stands at {point}")
    worker.kill()
    house.points.let_go()
    worker = house.start("worker")
    matrix.check(point)
    worker.kill()


def child_of(house: House, worker: Program) -> int:
    """Return the pid of the process that renders."""
    ours = {child.pid for child in worker.children()}
    rows = house.desk.run("SELECT pid FROM workers")
    (pid,) = ours & {row["pid"] for row in rows}
    return pid


def stop_worker(matrix: Matrix) -> None:
    """Send SIGTERM to the worker while jobs wait at each point; then they go on."""
    house = matrix.house
    worker = house.start("worker")
    matrix.stand_at_each("stopped")
    worker.process.terminate()
    until(lambda: '"draining"' in worker.text(), "it has heard that")
    house.points.let_go()
    assert worker.process.wait(timeout=100) == 0
    house.start("worker")
    matrix.check("stopped")


def end_gateway(matrix: Matrix, ledger: Ledger, number: signal.Signals) -> None:
    """End the gateway while requests wait at each point; their clients send them again."""
    house, manner = matrix.house, f"gateway-{number.name}"
    gateway = house.start("api")
    until(lambda: is_up(house.port), "the gateway answers")
    clients = [*cancels(matrix, manner), *submits(matrix, manner)]
    gateway.process.send_signal(number)
    if number is signal.SIGKILL:
        gateway.process.wait(timeout=100)
    house.points.let_go()
    gateway.process.wait(timeout=100)
    gateway = house.start("api")
    for key, client in clients:
        answer = client.done()
        ledger.accept(key, answer["id"]) if key else ledger.cancel(answer["id"])
    matrix.check(manner)
    gateway.terminate()


def submits(matrix: Matrix, manner: str) -> Iterator[tuple[str, Client]]:
    for point, fate in SUBMITS.items():
        engines = matrix.engines(fate)
        asked = matrix.house.points.ask(point, len(engines))
        for engine in engines:
            form = {
                "model": engine,
                "prompt": matrix.prompt(manner, point, engine, fate),
                **{"width": "96", "height": "64", "num_frames": "8", "fps": "8"},
            }
            key = f"{manner}-{point}-{engine}"
            yield key, Client(matrix.house.port, "", key=key, form=form)
        matrix.house.points.wait(asked, f"{manner}: submits stand at {point}")


def cancels(matrix: Matrix, manner: str) -> Iterator[tuple[str, Client]]:
    house = matrix.house
    for point, fate in CANCELS.items():
        jobs = [house.order(each, matrix.prompt(manner, point, each, fate)) for each in ENGINES]
        for job in jobs:
            house.at(job, Stage.RENDERING_ELSEWHERE)
        asked = house.points.ask(point, len(jobs))
        for job in jobs:
            yield "", Client(house.port, f"/{job.public_id}/cancel")
        house.points.wait(asked, f"{manner}: cancels stand at {point}")


def is_up(port: int) -> bool:
    with contextlib.suppress(requests.RequestException):
        return requests.get(f"http://127.0.0.1:{port}/livez", timeout=5).status_code == 200
    return False
