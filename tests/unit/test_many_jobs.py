"""A process of many jobs: its places, its sign of life, and its finishers."""

import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import pytest

from shared.errors import PutOff
from shared.jobs.checkpoints import OpenCheckpoint
from shared.jobs.transitions import Claim
from shared.lifecycle import Stage
from shared.settings import Settings
from tests.support.processes import until
from worker.engines.base import Step
from worker.render.ending_elsewhere import AGAIN_ROUNDS, EndingElsewhere
from worker.render.failure import LONGEST_PUT_OFF, end_failed_attempt
from worker.render.finish import Finisher
from worker.render.lease import Drain, Lease, Leases, StageRule
from worker.render.many_jobs import ManyJobs
from worker.supervisor.heartbeat_file import HeartbeatFile
from worker.supervisor.places import find_worker_configs

ENTRY = "wan-fast=openai-videos:http://10.0.0.7:8000/v1?model=wan"


@pytest.fixture
def slot(tmp_path: Path) -> Iterator[HeartbeatFile]:
    slot = HeartbeatFile.create(tmp_path / "slot")
    yield slot
    slot.close()


def places(folder: Path, engines: str, **values: Any) -> dict[str, tuple[int, list[str]]]:
    settings = Settings(
        _env_file=None, engines=engines, gpus="none", worker_id="host", cpu_workers=2, **values
    )
    configs = find_worker_configs(settings, folder)
    return {config.worker: (config.places, list(config.engines)) for config in configs}


def test_what_renders_elsewhere_has_one_process_of_its_own(tmp_path: Path) -> None:
    found = places(tmp_path, f"camera,{ENTRY}", remote_jobs=5)
    assert found == {
        "host-cpu0": (1, ["camera"]),
        "host-cpu1": (1, ["camera"]),
        "host-remote": (5, ["wan-fast"]),
    }
    assert places(tmp_path, ENTRY) == {"host-remote": (8, ["wan-fast"])}


class Work:
    """Replaces a render loop's `claim` and `serve`: its jobs end when a test lets them."""

    def __init__(self, patch: pytest.MonkeyPatch, waiting: int) -> None:
        self.waiting = waiting
        self.running: set[int] = set()
        self.most = 0
        self.go = threading.Event()
        self._lock = threading.Lock()
        patch.setattr("worker.render.many_jobs.claim", self.claim)
        patch.setattr("worker.render.many_jobs.begun", lambda context, job: FakeHold())
        patch.setattr("worker.render.many_jobs.serve", self.serve)

    def claim(self, context: Any) -> Any:
        if not self.waiting:
            return None
        self.waiting -= 1
        return SimpleNamespace(public_id=f"job_{self.waiting}")

    def serve(self, context: Any, job: Any, lease: Any) -> None:
        with self._lock:
            self.running.add(id(job))
            self.most = max(self.most, len(self.running))
        self.go.wait(30)
        with self._lock:
            self.running.discard(id(job))


class FakeHold:
    def __enter__(self) -> None:
        return None

    def __exit__(self, *_: object) -> None:
        return None


def test_as_many_jobs_run_as_there_are_places_and_a_drain_waits_for_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    work = Work(monkeypatch, waiting=5)
    many = ManyJobs(SimpleNamespace(), places=3)  # type: ignore[arg-type]
    assert [many.render_next() for _ in range(3)] == [True] * 3
    until(lambda: len(work.running) == 3, "three run")
    assert many.render_next() is True, "full: it is looked at again"
    assert work.waiting == 2
    work.go.set()
    until(lambda: not many.render_next(), "the others are begun, and there is none left")
    many.wait()
    assert (work.most, work.running) == (3, set())


def test_a_claim_that_fails_costs_no_place(monkeypatch: pytest.MonkeyPatch) -> None:
    work = Work(monkeypatch, waiting=0)
    many = ManyJobs(SimpleNamespace(), places=1)  # type: ignore[arg-type]
    assert many.render_next() is False

    def fail(context: Any) -> Any:
        raise RuntimeError("the table is not there")

    with monkeypatch.context() as patched:
        patched.setattr("worker.render.many_jobs.claim", fail)
        with pytest.raises(RuntimeError):
            many.render_next()
    work.waiting = 1
    work.go.set()
    assert many.render_next() is True
    many.wait()


def job(number: int) -> Any:
    return SimpleNamespace(id=UUID(int=number), attempt=1, public_id=f"job_{number}", failures=0)


def test_a_process_hangs_when_all_that_it_holds_does(
    slot: HeartbeatFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    rules = dict.fromkeys(Stage, StageRule(10, 10, Drain.HAND_BACK))
    rules[Stage.RENDERING_ELSEWHERE] = StageRule(300, 300, Drain.HAND_BACK)
    now = [1000.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    rows: Any = SimpleNamespace()
    leases = Leases(rows, slot, lease_seconds=1e6, also=lambda: None, stages=rules)
    try:
        waiting, quick = leases.hold(job(1)), leases.hold(job(2))
        waiting.on_step(Step(1, 100, Stage.RENDERING_ELSEWHERE))
        quick.on_step(Step(1, 8, Stage.DECODING))
        leases.release(quick)
        now[0] += 200
        assert slot.overdue_seconds == 0, "the other may take as long"
        now[0] += 200
        assert slot.overdue_seconds > 0
    finally:
        leases.close()


def test_a_look_elsewhere_says_nothing_of_the_pace_and_is_a_sign_of_life(
    slot: HeartbeatFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [1000.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    lease = Lease(job(1), slot)
    for _ in range(100):
        now[0] += 250
        assert lease.stalled_seconds <= 0
        lease.on_step(Step(30, 100, Stage.RENDERING_ELSEWHERE))
    assert lease.progress().eta_seconds is None


def test_tails_are_as_many_as_their_places() -> None:
    nobody: Any = None
    finisher = Finisher(
        nobody, nobody, settle=lambda *_: None, release=lambda lease: None, places=2
    )
    going, running = threading.Event(), threading.Semaphore(0)

    def complete(clip: Any) -> None:
        running.release()
        going.wait(30)

    finisher._complete = complete  # type: ignore[method-assign]
    lease = SimpleNamespace(enter=lambda stage: None, touch=lambda: None, check=lambda: None)
    clips: list[Any] = [
        SimpleNamespace(lease=lease, job=SimpleNamespace(public_id="", attempt=1, request_id=None))
        for _ in range(3)
    ]
    for clip in clips:
        clip.discard = lambda: None
    finisher.finish(clips[0])
    finisher.finish(clips[1])
    third = threading.Thread(target=finisher.finish, args=[clips[2]])
    third.start()
    assert all(running.acquire(timeout=30) for _ in range(2))
    assert not running.acquire(timeout=0.2), "the third waits"
    going.set()
    third.join(30)
    finisher.wait()
    assert running.acquire(blocking=False)


class Rows:
    """Replaces the transitions, and records each one."""

    def __init__(self) -> None:
        self.made: list[tuple[str, Any]] = []

    def put_off(self, claim: Claim, *, delay: timedelta) -> None:
        self.made.append(("put_off", delay))

    def fail(self, claim: Claim, error: Any, **_: Any) -> None:
        self.made.append(("fail", error.code))


@pytest.mark.parametrize(
    ("age", "made"),
    [
        (timedelta(hours=1), ("put_off", timedelta(seconds=7))),
        (LONGEST_PUT_OFF + timedelta(hours=1), ("fail", "remote_unavailable")),
    ],
)
def test_who_takes_no_job_is_waited_for_but_not_for_ever(age: timedelta, made: Any) -> None:
    rows, nobody = Rows(), SimpleNamespace()
    born = datetime(2026, 11, 1, tzinfo=UTC)
    lease: Any = SimpleNamespace(
        job=SimpleNamespace(created_at=born, started_at=born + age), claim=None
    )
    error = PutOff("it takes no job now", retry_after_seconds=7)
    end_failed_attempt(rows, nobody, lease, error, max_attempts=3)  # type: ignore[arg-type]
    assert rows.made == [made]


def test_an_end_elsewhere_that_is_not_answered_is_tried_again_later() -> None:
    open_one = OpenCheckpoint(uuid4(), "paid", {"id": "t"})
    answers: list[Any] = [None, {"reached": True}]
    asked: list[Any] = []
    closed: list[Any] = []

    def end(checkpoint: Any) -> Any:
        asked.append(checkpoint)
        return answers.pop(0)

    rows: Any = SimpleNamespace(
        ended=lambda name, engines: [] if closed else [open_one],
        close=lambda job_id, name, metrics: closed.append(metrics),
    )
    engines: Any = SimpleNamespace(items=list)
    ending = EndingElsewhere(rows, engines)
    ending._engines = {"paid": SimpleNamespace(end_elsewhere=end)}  # type: ignore[dict-item]
    for _ in range(AGAIN_ROUNDS):
        ending.look()
    assert (len(asked), closed) == (1, [])
    ending.look()
    assert (len(asked), closed) == (2, [{"ended_elsewhere": {"reached": True}}])
