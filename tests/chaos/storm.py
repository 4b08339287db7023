"""A seeded storm over the whole service: real processes, real servers, real faults, one audit.

`python -m tests.chaos.storm --jobs 10000 --faults 200 --seed 1` prints one table. Clients and
faults advance together, because the last fault must meet as much work as the first.
"""

import argparse
import contextlib
import os
import platform
import random
import signal
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

from shared.errors import DatabaseUnavailable
from tests.chaos.audit import Findings, audit, duplicates, listen
from tests.chaos.client import Clients, Ledger
from tests.chaos.faults import FAULTS, Scene, deck
from tests.chaos.proxy import Proxy
from tests.chaos.ward import SETTINGS, ward
from tests.support.factory import JobFixture
from tests.support.processes import until
from tests.support.receiver import Behaviour, Peer, Receiver, cut_body, hang, reset, status
from tests.support.servers import running_servers
from tests.support.stack import Stack

BACKLOG: Final = 120
"""So many jobs may wait: enough to keep the workers busy through every outage."""

QUIET_SECONDS: Final = 240.0
RECEIVERS: Final = 6
TROUBLE: Final = {status(500): 0.08, reset(): 0.02, cut_body(): 0.02, hang(): 0.002}


@dataclass(frozen=True)
class Happened:
    """One fault: when it began and when its cause was gone, by the wall clock."""

    kind: str
    began: float
    ended: float


@dataclass
class Report:
    """The result of a storm."""

    seed: int
    jobs: int
    seconds: float
    quiet_seconds: float
    statuses: Counter[str]
    errors: Counter[str]
    faults: Counter[str]
    fenced: int
    duplicate_webhooks: int
    dead_letters: int
    refused: Counter[str]
    recoveries: list[float]
    answers: dict[str, list[float]]
    findings: Findings


@dataclass
class Storm:
    """Clients and faults on one stack; `run` returns when all is quiet and audited."""

    stack: Stack
    folder: Path
    seed: int
    jobs: int
    faults: int
    happened: list[Happened] = field(default_factory=list)
    waiting: int = 0
    stopping: threading.Event = field(default_factory=threading.Event)

    def run(self) -> Report:
        with contextlib.ExitStack() as opened:
            receivers = [
                opened.enter_context(Receiver(f"127.0.0.{number + 1}"))
                for number in range(RECEIVERS)
            ]
            for receiver in receivers:
                receiver.script("/hook", _moody(random.Random(f"{self.seed}-{receiver.host}")))
            postgres, s3 = (
                opened.enter_context(Proxy(self.stack.servers.state.ports[name]))
                for name in ("postgres", "s3")
            )
            desk = opened.enter_context(
                contextlib.closing(JobFixture(self.stack.settings(**SETTINGS)))
            )
            people = opened.enter_context(
                ward(self.stack, self.folder / "logs", **_behind(self.stack, postgres, s3))
            )
            ledger = opened.enter_context(contextlib.closing(Ledger(self.folder / "ledger")))
            people.start()
            until(lambda: len(desk.run("SELECT 1 FROM workers")) == 2, "two workers are up")
            scene = Scene(self.stack, desk, people, postgres, s3, random.Random(self.seed))
            hooks = [receiver.url("/hook") for receiver in receivers]
            clients = Clients(people.url, ledger, self.seed, hooks, _script)
            clients.may_send, clients.stopping = self._may_send, self.stopping
            return self._rage(scene, clients, receivers)

    def _rage(self, scene: Scene, clients: Clients, receivers: list[Receiver]) -> Report:
        began = time.monotonic()
        sending = threading.Thread(target=clients.send, args=(self.jobs,), daemon=True)
        counting = threading.Thread(target=self._count_waiting, args=(scene.desk,), daemon=True)
        probing = threading.Thread(target=clients.probe, daemon=True)
        for thread in (sending, counting, probing):
            thread.start()
        try:
            # This is not in a thread: the servers that it restarts would die with that thread.
            self._inject(scene, clients)
            sending.join()
            calm_from = time.monotonic()
            until(lambda: self._is_quiet(scene.desk), "all is quiet", within=QUIET_SECONDS)
            quiet = time.monotonic() - calm_from
        finally:
            self.stopping.set()
        return self._report(scene, clients, receivers, time.monotonic() - began, quiet)

    def _inject(self, scene: Scene, clients: Clients) -> None:
        for number, kind in enumerate(deck(scene.rng, self.faults)):
            due = self.jobs * (number + 0.5) / (self.faults + 1)
            until(partial(clients.have, due), "jobs are accepted", within=QUIET_SECONDS)
            scene.pause(scene.rng.uniform(0.2, 1.0))
            at = time.time()
            FAULTS[kind](scene)
            self.happened.append(Happened(kind, at, time.time()))

    def _may_send(self, number: int) -> bool:
        """Let clients send half a fault ahead of the storm, while fewer than BACKLOG jobs wait."""
        allowed = self.jobs * (len(self.happened) + 1) / (self.faults + 1) + 1
        return self.waiting < BACKLOG and number < allowed

    def _count_waiting(self, job_fixture: JobFixture) -> None:
        while not self.stopping.wait(0.2):
            with contextlib.suppress(DatabaseUnavailable):
                rows = job_fixture.run(
                    "SELECT count(*) AS waiting FROM jobs WHERE status IN ('queued', 'running')"
                )
                self.waiting = rows[0]["waiting"]

    def _is_quiet(self, job_fixture: JobFixture) -> bool:
        with contextlib.suppress(DatabaseUnavailable):
            return not job_fixture.run(
                "SELECT 1 FROM jobs WHERE status IN ('queued', 'running') UNION ALL"
                " SELECT 1 FROM deliveries WHERE status = 'pending' LIMIT 1"
            )
        return False

    def _report(
        self,
        scene: Scene,
        clients: Clients,
        receivers: list[Receiver],
        seconds: float,
        quiet: float,
    ) -> Report:
        desk = scene.desk
        heard = listen(desk, receivers)
        rows = desk.run("SELECT status, error_code, finished_at FROM jobs")
        dead = desk.run("SELECT count(*) AS dead FROM deliveries WHERE status = 'dead'")
        ends = sorted(row["finished_at"].timestamp() for row in rows if row["finished_at"])
        return Report(
            seed=self.seed,
            jobs=len(rows),
            seconds=seconds,
            quiet_seconds=quiet,
            statuses=Counter(row["status"] for row in rows),
            errors=Counter(row["error_code"] for row in rows if row["error_code"]),
            faults=Counter(it.kind for it in self.happened),
            fenced=scene.people.counted("worker", "lease_lost"),
            duplicate_webhooks=duplicates(heard),
            dead_letters=dead[0]["dead"],
            refused=Counter(str(asked.status) for asked in clients.asked),
            recoveries=list(_recoveries(self.happened, ends)),
            answers=_answers(self.happened, clients),
            findings=audit(desk, clients.ledger, receivers),
        )


def _moody(rng: random.Random) -> Behaviour:
    kinds, odds = list(TROUBLE), list(TROUBLE.values())
    kinds.append(status(204))
    odds.append(1 - sum(odds))

    def behave(peer: Peer) -> None:
        rng.choices(kinds, odds)[0](peer)

    return behave


def _behind(stack: Stack, postgres: Proxy, s3: Proxy) -> dict[str, str]:
    """Return the settings that send the traffic through the proxies."""
    usual = stack.settings()
    port = stack.servers.state.ports["postgres"]
    url = usual.database_url.get_secret_value()
    return {
        "database_url": url.replace(f":{port}/", f":{postgres.port}/"),
        "s3_endpoint": f"http://127.0.0.1:{s3.port}",
    }


def _script(number: int, rng: random.Random) -> str:
    """Most jobs are short; a fault can meet the few long ones; a few fail by themselves."""
    luck = rng.random()
    if luck < 0.01:
        return "nan"
    return "steps=40 pause=0.05" if luck < 0.06 else "steps=3 pause=0.01"


def _recoveries(happened: list[Happened], ends: list[float]) -> Iterator[float]:
    """Yield, for each fault, the seconds from its end until the next job ended."""
    for fault in happened:
        later = [end for end in ends if end > fault.ended]
        if later:
            yield later[0] - fault.ended


def _answers(happened: list[Happened], clients: Clients) -> dict[str, list[float]]:
    """Return how long clients waited for all answers, and for those while a server was frozen."""
    answered = [asked for asked in clients.asked if not asked.was_refused]
    waits = {"all": [asked.seconds for asked in answered]}
    for kind in ("freeze Valkey", "freeze Postgres"):
        spans = [(it.began, it.ended) for it in happened if it.kind == kind]
        waits[kind] = [
            asked.seconds
            for asked in answered
            if any(asked.at < end and asked.at + asked.seconds > begin for begin, end in spans)
        ]
    return waits


def percentile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


def table(report: Report) -> str:
    """Return the report as lines of a Markdown table."""
    faults = ", ".join(f"{kind} {count}" for kind, count in sorted(report.faults.items()))
    lines = [
        ("seed", report.seed),
        ("jobs, ended", f"{report.jobs}: {_listed(report.statuses)}"),
        ("failed as", _listed(report.errors) or "-"),
        ("faults", f"{report.faults.total()}: {faults}"),
        ("broken promises", _listed(Counter(report.findings.broken)) or "0"),
        ("late writes refused by the fence", report.fenced),
        ("webhooks sent again", report.duplicate_webhooks),
        ("dead letters", report.dead_letters),
        ("requests by answer", _listed(report.refused)),
        *(
            (f"answer p99, {name}", f"{percentile(waits, 0.99):.2f} s of {len(waits)}")
            for name, waits in report.answers.items()
        ),
        (
            "fault over to next end of a job",
            f"median {statistics.median(report.recoveries or [0]):.1f} s,"
            f" worst {max(report.recoveries or [0]):.1f} s",
        ),
        ("last fault to silence", f"{report.quiet_seconds:.1f} s"),
        ("all in all", f"{report.seconds:.0f} s"),
    ]
    return "\n".join(f"| {name} | {value} |" for name, value in lines)


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items()))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--jobs", type=int, default=10_000)
    parser.add_argument("--faults", type=int, default=200)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10_000))
    asked = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="stillreel-storm-")).resolve()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # It leaves no process behind.
    with running_servers(folder) as servers:
        storm = Storm(Stack(servers, folder), folder, asked.seed, asked.jobs, asked.faults)
        report = storm.run()
    sys.stdout.write(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores\n")
    sys.stdout.write(f"{table(report)}\nlogs and ledger: {folder}\n")
    return 1 if report.findings.broken else 0


if __name__ == "__main__":
    sys.exit(main())
