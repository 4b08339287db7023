"""The right to a job, kept alive by a thread for as long as the work makes progress."""

import statistics
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from functools import partial
from types import MappingProxyType
from typing import Final

import structlog

from shared.crashpoints import crashpoint
from shared.errors import DatabaseUnavailable, Drained, LeaseLost, Stalled
from shared.jobs.job import Job
from shared.jobs.preview_store import PreviewStore
from shared.jobs.transitions import Claim, Jobs, Progress
from shared.lifecycle import Stage
from worker.engines.base import Image, Step
from worker.render.preview import encode_preview
from worker.supervisor.heartbeat_file import HeartbeatFile


class Drain(Enum):
    """What a drain does with a job in a certain stage."""

    HAND_BACK = "hands it back at once"
    WEIGH = "lets it go on if the steps that are left end in time"
    FINISH = "lets it end: nearly all is done"


@dataclass(frozen=True)
class StageRule:
    """How long a stage may go without a sign of progress, and what a drain does in it.

    `first_seconds` is the limit for the first sign, which includes the work before it and shows
    how slow a correct step is here. It is also the limit after the last sign, for the next stage's
    first. A sign between them may take `seconds`, or `STEP_FACTOR` times the median of the signs
    before it if that is longer.
    """

    first_seconds: float
    seconds: float
    drain: Drain


StageRules = Mapping[Stage, StageRule]

STAGES: Final[StageRules] = MappingProxyType(
    {
        Stage.LOADING: StageRule(900, 900, Drain.HAND_BACK),
        Stage.COMPILING: StageRule(600, 600, Drain.HAND_BACK),
        # An engine that reports no encoding has its first step in here too.
        Stage.ENCODING_INPUTS: StageRule(900, 120, Drain.HAND_BACK),
        Stage.DENOISING: StageRule(900, 60, Drain.WEIGH),
        # The remote render goes on without this process, and the next attempt gets its id. Each
        # poll is a sign of life, whether it is answered or not; the remote render may take as long
        # as it needs.
        Stage.SUBMITTING: StageRule(300, 300, Drain.HAND_BACK),
        Stage.RENDERING_ELSEWHERE: StageRule(300, 300, Drain.HAND_BACK),
        Stage.DOWNLOADING: StageRule(300, 300, Drain.HAND_BACK),
        Stage.DECODING: StageRule(900, 120, Drain.FINISH),
        Stage.MUXING: StageRule(300, 300, Drain.FINISH),
        Stage.UPLOADING: StageRule(300, 300, Drain.FINISH),
    }
)

TOLD: Final = frozenset({Stage.RENDERING_ELSEWHERE, Stage.DOWNLOADING})
"""Stages whose steps are shares reported by another server: their pace says nothing."""

STEP_FACTOR: Final = 10
MEDIAN_OF: Final = 32
BEATS_PER_LEASE: Final = 4
MOST_SECONDS_BETWEEN_BEATS: Final = 1.0  # Short, so that a cancel is noticed within a second.

_log = structlog.get_logger(__name__)


class Lease:
    """One claimed job; the engine calls `on_step`, which also stops the engine.

    The thread that renders reports here; the thread of `Leases` writes it to the database.
    """

    def __init__(
        self,
        job: Job,
        heartbeat_file: HeartbeatFile,
        beat: Callable[[float], None] | None = None,
        *,
        stages: StageRules = STAGES,
    ) -> None:
        """`beat` takes the seconds to the next sign of life, if a process has several leases."""
        self.job = job
        self.claim = Claim(job.id, job.attempt)
        self._is_forgiven = False
        self._heartbeat_file = heartbeat_file
        self._beat = beat or heartbeat_file.beat
        self._stages = stages
        self._lock = threading.Lock()
        self._lost: LeaseLost | Stalled | None = None
        self._stage = Stage.LOADING
        self._step: int | None = None
        self._total: int | None = None
        self._progressed_at = time.monotonic()
        self._first_step_seconds: float | None = None
        self._step_seconds: deque[float] = deque(maxlen=MEDIAN_OF)
        self._preview: tuple[int, Image] | None = None
        self.preview_step: int | None = None
        """The step whose preview was stored for the gateway."""
        self.is_beside_renders = False
        self.load_seconds = 0.0
        """How long the job waited for its model, which was not in memory; it is kept in the
        metrics."""
        self.touch()

    def enter(self, stage: Stage, total: int | None = None) -> None:
        """Begin a stage.

        Raises:
            LeaseLost, Stalled, Drained: stop the work.
        """
        with self._lock:
            self._begin(stage)
            self._step, self._total = None, total
        self.touch()
        self.check()

    def on_step(self, step: Step) -> None:
        """Note a finished step; it raises like `enter`."""
        crashpoint("step")
        now = time.monotonic()
        with self._lock:
            if step.stage is not self._stage:
                self._begin(step.stage)
            if step.stage not in TOLD:
                self._count(now - self._progressed_at)
            self._step, self._total = step.index, step.total
            if step.preview is not None:
                self._preview = (step.index, step.preview)
        self.touch()
        self.check()

    def take_preview(self) -> tuple[int, Image] | None:
        """Return the newest preview of the clip and its step, once; older ones are skipped."""
        with self._lock:
            taken, self._preview = self._preview, None
        return taken

    def on_load(self, fraction: float, what: str) -> None:
        """Note progress of a load; it raises like `enter`."""
        self._note(Stage.LOADING, fraction)

    def on_compile(self, fraction: float, what: str) -> None:
        """Note progress of the work after a load; it raises like `enter`."""
        self._note(Stage.COMPILING, fraction)

    def _note(self, stage: Stage, fraction: float) -> None:
        with self._lock:
            self._stage, self._step, self._total = stage, round(fraction * 100), 100
        self.touch()
        self.check()

    def _begin(self, stage: Stage) -> None:
        self._stage = stage
        self._first_step_seconds = None
        self._step_seconds.clear()

    def _count(self, seconds: float) -> None:
        if self._first_step_seconds is None:
            self._first_step_seconds = seconds
        else:
            self._step_seconds.append(seconds)

    def touch(self) -> None:
        """Note that the work is alive."""
        with self._lock:
            self._progressed_at = time.monotonic()
            limit = self._limit()
        if self.is_beside_renders:
            self._heartbeat_file.beat_of_load(limit)
        else:
            self._beat(limit)

    def begin_beside_renders(self) -> None:
        """Note that this job's model is loaded while other jobs are rendered."""
        self.is_beside_renders = True
        self.touch()

    def end_beside_renders(self, load_seconds: float) -> None:
        """Note that the load has ended: the job is now rendered in its turn."""
        self.load_seconds = load_seconds
        self.is_beside_renders = False
        self._heartbeat_file.end_load()
        self.touch()

    def check(self) -> None:
        """Raise the error that ended the right to continue, if there is one."""
        if self._lost is not None:
            raise self._lost
        left = self._heartbeat_file.drain_seconds_left
        if left is not None and not self._ends_within(left):
            raise Drained("the worker is stopping; the job goes back to the queue")

    def lose(self, reason: LeaseLost | Stalled) -> None:
        self._lost = reason

    def forgive(self) -> None:
        """Note that the job's failures are counted from zero, because some progress was stored."""
        self._is_forgiven = True

    @property
    def failures(self) -> int:
        """How often the job has failed since progress was last stored."""
        return 0 if self._is_forgiven else self.job.failures

    @property
    def is_draining(self) -> bool:
        """Say whether the worker stops: an error now may come from a server that stops too."""
        return self._heartbeat_file.is_draining

    @property
    def is_lost(self) -> bool:
        return self._lost is not None

    @property
    def stalled_seconds(self) -> float:
        with self._lock:
            return time.monotonic() - self._progressed_at - self._limit()

    def progress(self) -> Progress:
        with self._lock:
            return Progress(
                stage=self._stage,
                step=self._step,
                total_steps=self._total,
                eta_seconds=self._eta(),
                preview_step=self.preview_step,
            )

    def _limit(self) -> float:
        rule = self._stages[self._stage]
        is_whole = self._step is not None and self._step == self._total
        # After the last sign comes the next stage's first.
        if self._first_step_seconds is None or is_whole:
            return rule.first_seconds
        # The first step may be slower than all others; two more steps outvote it in the median.
        typical = statistics.median([self._first_step_seconds, *self._step_seconds])
        return max(rule.seconds, STEP_FACTOR * typical)

    def _eta(self) -> float | None:
        if self._step is None or self._total is None or not self._step_seconds:
            return None
        return (self._total - self._step) * statistics.median(self._step_seconds)

    def _ends_within(self, seconds: float) -> bool:
        """Say whether a drain may wait for this job; after denoising a job is nearly finished."""
        with self._lock:
            match self._stages[self._stage].drain:
                case Drain.HAND_BACK:
                    return False
                case Drain.FINISH:
                    return True
                case Drain.WEIGH:
                    eta = self._eta()
                    if eta is None:
                        return seconds > 0  # The next step shows how long the rest takes.
                    return eta < seconds


class Leases:
    """The thread that renews all leases of this process, several times in a lease's length."""

    def __init__(
        self,
        jobs: Jobs,
        heartbeat_file: HeartbeatFile,
        *,
        lease_seconds: float,
        also: Callable[[], None],
        previews: PreviewStore | None = None,
        stages: StageRules = STAGES,
    ) -> None:
        """`also` is called once per round: it is the worker's own beat."""
        self._previews = previews
        self._stages = stages
        self._jobs = jobs
        self._heartbeat_file = heartbeat_file
        self._period = min(MOST_SECONDS_BETWEEN_BEATS, lease_seconds / BEATS_PER_LEASE)
        self._also = also
        self._held: dict[Claim, Lease] = {}
        self._ended: list[Claim] = []
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="leases", daemon=True)
        self._thread.start()

    def hold(self, job: Job) -> Lease:
        """Keep this job's lease alive until `release`."""
        lease = Lease(job, self._heartbeat_file, self._beat, stages=self._stages)
        with self._lock:
            self._held[lease.claim] = lease
        return lease

    def _beat(self, limit: float) -> None:
        """Write the process' next deadline: the process counts as hung when all its jobs do."""
        with self._lock:
            held = list(self._held.values())
        beside = (-lease.stalled_seconds for lease in held if not lease.is_beside_renders)
        self._heartbeat_file.beat(max([limit, *beside]))

    def release(self, lease: Lease) -> None:
        with self._lock:
            self._held.pop(lease.claim, None)
            if lease.preview_step is not None:
                self._ended.append(lease.claim)
            idle = all(held.is_beside_renders for held in self._held.values())
        if idle:
            self._heartbeat_file.idle()

    def close(self) -> None:
        self._stopped.set()
        self._thread.join(timeout=5)

    def _run(self) -> None:
        while not self._stopped.wait(self._period):
            with self._lock:
                held = list(self._held.values())
                ended, self._ended = self._ended, []
            for lease in held:
                self._guarded(partial(self._renew, lease))
            for claim in ended:
                self._guarded(partial(self._forget, claim))
            self._guarded(self._also)

    def _guarded(self, act: Callable[[], None]) -> None:
        """Do one task of a round, whatever became of others, because all jobs need this thread."""
        try:
            act()
        except Exception:  # The edge of this thread: the next round starts afresh.
            _log.exception("lease_round_failed")

    def _show(self, lease: Lease) -> None:
        """Store a new preview for the gateway; the beat that follows announces it."""
        taken = lease.take_preview()
        if taken is None or self._previews is None:
            return
        step, image = taken
        if self._previews.put(lease.claim.job_id, lease.claim.attempt, encode_preview(image)):
            lease.preview_step = step

    def _forget(self, claim: Claim) -> None:
        """Delete the preview of a job that ended here, because no client may see it any longer."""
        if self._previews is not None:
            self._previews.drop(claim.job_id, claim.attempt)

    def _renew(self, lease: Lease) -> None:
        """Beat once, unless the work has stalled: then the keeper takes the job."""
        if lease.is_lost:
            return
        self._guarded(partial(self._show, lease))
        if lease.stalled_seconds > 0:
            stage = lease.progress().stage
            _log.error("render_stalled", stage=stage, job=lease.job.public_id)
            lease.lose(Stalled(f"no progress while {stage}; the render was stopped"))
            return
        try:
            self._jobs.beat(lease.claim, lease.progress())
        except LeaseLost as error:
            lease.lose(error)
        except DatabaseUnavailable:
            _log.warning("beat_missed", job=lease.job.public_id)
