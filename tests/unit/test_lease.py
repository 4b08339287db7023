"""The lease of one job: what stops the work, and what lets it go on."""

import time
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest

from shared.errors import DatabaseUnavailable, Drained, LeaseLost, Stalled
from shared.jobs.job import Job
from shared.jobs.transitions import Claim, Jobs, Progress
from shared.lifecycle import Stage
from tests.support.processes import until
from worker.engines.base import Step
from worker.render.lease import STAGES, Drain, Lease, Leases, StageRule
from worker.supervisor.heartbeat_file import HeartbeatFile


class FakeJob:
    id = UUID(int=1)
    attempt = 1
    public_id = "job_1"


class Rows(Jobs):
    """Replaces the table: it counts the beats, and refuses them on demand."""

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


def test_a_stalled_stage_is_no_longer_renewed(rows: Rows, slot: HeartbeatFile) -> None:
    stages = dict.fromkeys(Stage, StageRule(0.05, 0.05, Drain.HAND_BACK))
    leases = Leases(rows, slot, lease_seconds=0.04, also=lambda: None, stages=stages)
    try:
        lease = leases.hold(job())
        until(lambda: lease.is_lost, "the stall was noticed")
        renewed = len(rows.beats)
        until(lambda: lease.stalled_seconds > 0.2, "several rounds have passed")
        assert len(rows.beats) == renewed
        with pytest.raises(Stalled):
            lease.check()
    finally:
        leases.close()


def test_an_unexpected_error_ends_neither_the_renewals_nor_the_workers_own_beat(
    rows: Rows, slot: HeartbeatFile
) -> None:
    beats: list[None] = []

    def beat_and_fail() -> None:
        beats.append(None)
        raise RuntimeError("Set changed size during iteration")

    leases = Leases(rows, slot, lease_seconds=0.04, also=beat_and_fail)
    try:
        leases.hold(job())
        rows.refusal = RuntimeError("nobody expected this")
        until(lambda: len(beats) > 2 and len(rows.beats) > 2, "both go on")
    finally:
        leases.close()


class Clock:
    """A clock that stands still until a test moves it."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.now = time.monotonic()
        patch.setattr(time, "monotonic", lambda: self.now)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def reports(steps: int, stage: Stage = Stage.DENOISING) -> list[Step]:
    return [Step(index, steps, stage) for index in range(1, steps + 1)]


@pytest.mark.parametrize("seconds", [1, 61, 90, 119, 125, 300, 890])
@pytest.mark.parametrize("stage", [Stage.ENCODING_INPUTS, Stage.DENOISING, Stage.DECODING])
def test_slow_steps_that_keep_their_pace_never_stall(
    slot: HeartbeatFile, clock: Clock, stage: Stage, seconds: float
) -> None:
    lease = Lease(job(), slot)
    lease.enter(Stage.ENCODING_INPUTS)
    for step in reports(6, stage) + reports(3, Stage.DECODING):
        clock.now += seconds
        assert lease.stalled_seconds <= 0, f"step {step.index} of {step.stage}"
        assert slot.overdue_seconds == 0
        lease.on_step(step)


@pytest.mark.parametrize("first_seconds", [0.1, 50])
@pytest.mark.parametrize(
    ("stage", "limit"),
    [(Stage.ENCODING_INPUTS, 120), (Stage.DENOISING, 60), (Stage.DECODING, 120)],
)
def test_a_kernel_that_hangs_after_quick_steps_is_caught_as_before(
    slot: HeartbeatFile, clock: Clock, stage: Stage, limit: float, first_seconds: float
) -> None:
    lease = Lease(job(), slot)
    pace = [first_seconds, 0.1, 0.1]
    for step, seconds in zip(reports(50, stage), pace, strict=False):
        clock.now += seconds
        lease.on_step(step)
    clock.now += limit - 1
    assert lease.stalled_seconds <= 0
    clock.now += 2
    assert lease.stalled_seconds > 0


def test_a_first_step_that_never_ends_is_caught(slot: HeartbeatFile, clock: Clock) -> None:
    lease = Lease(job(), slot)
    lease.enter(Stage.ENCODING_INPUTS)
    clock.now += 901
    assert lease.stalled_seconds > 0


def test_what_follows_the_last_step_has_the_time_of_a_first_one(
    slot: HeartbeatFile, clock: Clock
) -> None:
    """The engine reports its first decoded chunk when that exists; until then it is denoising."""
    lease = Lease(job(), slot)
    for step in reports(8):
        clock.now += 0.1
        lease.on_step(step)
    clock.now += 600
    assert lease.stalled_seconds <= 0
    lease.on_step(Step(1, 4, Stage.DECODING))
    assert lease.progress().stage is Stage.DECODING


def test_every_stage_has_its_row_in_the_table() -> None:
    assert set(STAGES) == set(Stage)
    for rule in STAGES.values():
        assert rule.first_seconds >= rule.seconds > 0


@pytest.mark.parametrize("stage", Stage)
def test_a_drain_does_in_each_stage_what_the_table_says(slot: HeartbeatFile, stage: Stage) -> None:
    lease = Lease(job(), slot)
    lease.enter(stage)
    slot.ask_to_drain(0)
    if STAGES[stage].drain is Drain.FINISH:
        lease.check()
    else:
        with pytest.raises(Drained):
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
