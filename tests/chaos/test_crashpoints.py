"""Every crash point is in the code and kills a real process, and the service survives it."""

import ast
import contextlib
import random
import threading
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from shared import crashpoints
from shared.crashpoints import GATEWAY, KEEPER, MARKS_VARIABLE, POINTS, REMOTE, VARIABLE
from shared.engines.parameters import RequestedParameters
from shared.jobs.job import Job
from shared.lifecycle import Stage, Status
from shared.owners import ANONYMOUS
from tests.chaos.audit import audit
from tests.chaos.client import Clients, Ledger
from tests.chaos.ward import SETTINGS, Service, ward
from tests.support.engines import ScriptedEngine
from tests.support.factory import JobFixture
from tests.support.processes import until
from tests.support.receiver import Receiver
from tests.support.stack import Stack
from tests.test_architecture import sources

pytestmark = [pytest.mark.extended, pytest.mark.long]

PATIENCE_SECONDS = 250.0
CRASHY = {"max_attempts": 99, "cpu_workers": 2}


def placed() -> Counter[str]:
    names: Counter[str] = Counter()
    for _, tree in sources():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and getattr(node.func, "id", None) == "crashpoint":
                (argument,) = node.args
                assert isinstance(argument, ast.Constant)
                names[str(argument.value)] += 1
    return names


def test_every_listed_point_stands_in_the_code_once() -> None:
    assert placed() == Counter((*POINTS, *REMOTE))


def test_an_unknown_point_is_refused_instead_of_never_fired() -> None:
    with pytest.raises(ValueError, match="no crash point"):
        crashpoints._armed("claimd")


def script(number: int, rng: random.Random) -> str:
    return "nan" if number == 0 else "steps=3 pause=0.01"


@pytest.mark.timeout(900)
def test_every_point_is_fired_and_survived(
    stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    marks = tmp_path / "marks"
    marks.mkdir()
    monkeypatch.setenv(VARIABLE, ",".join(POINTS))
    monkeypatch.setenv(MARKS_VARIABLE, str(marks))
    with (
        contextlib.closing(JobFixture(stack.settings(**SETTINGS))) as desk,
        contextlib.closing(Ledger(tmp_path / "ledger")) as ledger,
        Receiver() as receiver,
        ward(stack, tmp_path / "logs", **CRASHY) as people,
    ):
        leave_files_to_sweep(desk)
        people.start()
        until(lambda: desk.run("SELECT 1 FROM workers"), "a worker is up")
        clients = Clients(people.url, ledger, 1, [receiver.url("/hook")], script)
        canceling = threading.Thread(target=cancel_a_long_one, args=(desk, clients))
        canceling.start()
        clients.send(6)
        canceling.join(PATIENCE_SECONDS)
        provoke_the_rest(desk, clients, marks)
        until(lambda: haunt(desk), "a dead claim is there to reap")
        until(lambda: not unfired(marks), "the reaper dies too")
        until(lambda: is_quiet(desk), "everything ends", within=PATIENCE_SECONDS)
        findings = audit(desk, ledger, [receiver])
        ended = {row["status"] for row in desk.run("SELECT status FROM jobs")}
        assert findings.broken == {}
        assert ended == {Status.SUCCEEDED, Status.FAILED, Status.CANCELED}
        once_each = {"gateway": len(GATEWAY), "keeper": len(KEEPER)}
        until(lambda: deaths(people) == once_each, "each point was died at once")


def deaths(people: Service) -> dict[str, int]:
    return {name: people.exits[name, crashpoints.EXIT] for name in ("gateway", "keeper")}


def unfired(marks: Path) -> set[str]:
    return set(POINTS) - {mark.name for mark in marks.iterdir()}


def provoke_the_rest(job_fixture: JobFixture, clients: Clients, marks: Path) -> None:
    """Submit jobs until all points but the reaper's have fired.

    One round is not enough: a worker that died at another point cannot notice that its job was
    canceled.
    """
    ends_at = time.monotonic() + 2 * PATIENCE_SECONDS
    number = 0
    while left := unfired(marks) - {"lease_reaped"}:
        assert time.monotonic() < ends_at, f"never fired: {sorted(left)}"
        number += 1
        words = "nan" if number % 2 else "steps=3 pause=0.01"
        clients.insist(f"more-{number}", clients.form(words, random.Random(number)))
        if "lease_let_go" in left:
            cancel_a_long_one(job_fixture, clients, key=f"long-{number}")
        time.sleep(1)


def submit(job_fixture: JobFixture) -> Job:
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    small = RequestedParameters(width=64, height=64, num_frames=1)
    return job_fixture.submit(spec=ScriptedEngine.spec, image=image, asked=small)


def leave_files_to_sweep(job_fixture: JobFixture) -> None:
    job_fixture.jobs.delete(submit(job_fixture).id, owner_id=ANONYMOUS)


def haunt(job_fixture: JobFixture) -> bool:
    """Claim a job as a worker that is dead since; return False if a live worker was quicker."""
    submit(job_fixture)
    job = job_fixture.jobs.claim(["scripted"], worker="ghost#1")
    if job is None:
        return False
    job_fixture.run("UPDATE jobs SET lease_until = clock_timestamp() WHERE id = :id", id=job.id)
    return True


def cancel_a_long_one(job_fixture: JobFixture, clients: Clients, key: str = "long") -> None:
    form = clients.form("steps=100000 pause=0.05", random.Random(0))
    job_id = clients.insist(key, form)
    assert job_id is not None
    until(
        lambda: job_fixture.run(
            "SELECT 1 FROM jobs WHERE stage = :stage AND idempotency_key = :key",
            stage=Stage.DENOISING,
            key=key,
        ),
        "the long job is rendered",
        within=PATIENCE_SECONDS,
    )
    clients.cancel(job_id)


def is_quiet(job_fixture: JobFixture) -> bool:
    return not job_fixture.run(
        "SELECT 1 FROM jobs WHERE status IN ('queued', 'running') UNION ALL"
        " SELECT 1 FROM deliveries WHERE status = 'pending'"
    )
