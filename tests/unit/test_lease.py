"""The lease of one job: what stops the work, and what lets it go on."""

import time
from collections.abc import Iterator
from pathlib import Path
from types import MappingProxyType
from uuid import UUID

import pytest

import worker.render.lease
from shared.errors import DatabaseUnavailable, Drained, LeaseLost, Stalled
from shared.jobs.job import Job
from shared.jobs.transitions import Claim, Jobs, Progress
from shared.lifecycle import Stage
from tests.support.processes import until
from worker.engines.base import Step
from worker.render.lease import Lease, Leases
from worker.supervisor.heartbeat_file import HeartbeatFile


class FakeJob:
    id = UUID(int=1)
    attempt = 1
    public_id = "job_1"


class Rows(Jobs):
    """Stands for the table: beats are counted, and refused on demand."""

    def __init__(self) -> None:
        self.beats: list[Progress] = []
        self.refusal: Exception | None = None

    def beat(self, claim: Claim, progress: Progress) -> None:
        self.beats.append(progress)
        if self.refusal is not None:
            raise self.refusal


@pytest.fixture
def slot(tmp_path: Path) -> Iterator[HeartbeatFile]:
    slot = HeartbeatFile.create(tmp_path / "slot")
    yield slot
    slot.close()


@pytest.fixture
def rows() -> Rows:
    return Rows()


@pytest.fixture
def leases(rows: Rows, slot: HeartbeatFile) -> Iterator[Leases]:
    leases = Leases(rows, slot, lease_seconds=0.04, also=lambda: None)
    yield leases
    leases.close()


def job() -> Job:
    return FakeJob()  # type: ignore[return-value]  # Only what a lease reads of a job.


def test_a_lease_is_renewed_with_the_progress_shown(leases: Leases, rows: Rows) -> None:
    lease = leases.hold(job())
    lease.on_step(Step(3, 8))
    until(lambda: any(beat.step == 3 for beat in rows.beats), "step 3 was shown")
    leases.release(lease)


def test_a_lost_lease_stops_the_engine_at_its_next_step(leases: Leases, rows: Rows) -> None:
    lease = leases.hold(job())
    rows.refusal = LeaseLost("attempt 1 no longer owns the job")
    until(lambda: lease.is_lost, "the loss was noticed")
    with pytest.raises(LeaseLost):
        lease.on_step(Step(1, 8))


def test_a_database_that_is_away_for_a_while_costs_nothing(leases: Leases, rows: Rows) -> None:
    lease = leases.hold(job())
    rows.refusal = DatabaseUnavailable("away")
    before = len(rows.beats)
    until(lambda: len(rows.beats) > before + 2, "it goes on trying")
    lease.on_step(Step(1, 8))


def test_a_stalled_stage_is_no_longer_renewed(
    leases: Leases, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        worker.render.lease, "STALL_SECONDS", MappingProxyType(dict.fromkeys(Stage, 0.05))
    )
    lease = leases.hold(job())
    until(lambda: lease.is_lost, "the stall was noticed")
    renewed = len(rows.beats)
    until(lambda: lease.stalled_seconds > 0.2, "several rounds have passed")
    assert len(rows.beats) == renewed
    with pytest.raises(Stalled):
        lease.check()


def test_a_stall_limit_grows_with_slow_steps(
    slot: HeartbeatFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter(range(0, 10_000, 100))
    monkeypatch.setattr(time, "monotonic", lambda: float(next(clock)))
    lease = Lease(job(), slot)
    for index in range(1, 4):
        lease.on_step(Step(index, 50))
    assert lease.stalled_seconds < -900


def test_a_drain_stops_what_cannot_end_in_time(slot: HeartbeatFile) -> None:
    lease = Lease(job(), slot)
    slot.ask_to_drain(60)
    with pytest.raises(Drained):
        lease.on_load(0.5, "unet")


def test_compiling_has_a_stage_and_a_stall_limit_of_its_own(
    slot: HeartbeatFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease = Lease(job(), slot)
    lease.on_load(1.0, "unet")
    lease.on_compile(0.5, "512 x 512, 16 frames")
    since = time.monotonic()

    assert lease.progress().stage is Stage.COMPILING
    for seconds, stalled in ((590, False), (610, True)):
        monkeypatch.setattr(time, "monotonic", lambda now=since + seconds: now)
        assert (lease.stalled_seconds > 0) is stalled


@pytest.mark.parametrize("stage", [Stage.DECODING, Stage.MUXING, Stage.UPLOADING])
def test_a_drain_waits_for_what_is_nearly_done(slot: HeartbeatFile, stage: Stage) -> None:
    lease = Lease(job(), slot)
    slot.ask_to_drain(60)
    lease.enter(stage)
    lease.check()


def test_a_drain_weighs_the_steps_that_are_left(
    slot: HeartbeatFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease = Lease(job(), slot)
    now = time.monotonic()
    ticks = iter([now + seconds for seconds in range(1000)])
    monkeypatch.setattr(time, "monotonic", lambda: next(ticks))
    for index in range(1, 5):
        lease.on_step(Step(index, 100))
    monkeypatch.undo()
    slot.ask_to_drain(20)
    with pytest.raises(Drained):
        lease.check()
    slot.ask_to_drain(10_000)
    lease.check()


def test_the_slot_shows_a_supervisor_what_is_overdue(slot: HeartbeatFile) -> None:
    slot.register_child(42, 7)
    assert slot.overdue_seconds == 0
    slot.beat(-5.0)
    assert slot.overdue_seconds >= 5
    slot.idle()
    assert slot.overdue_seconds == 0
    assert (slot.pid, slot.incarnation) == (42, 7)
