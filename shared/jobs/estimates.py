"""When a job will start and end, computed from clips that ended here; no I/O."""

import heapq
import statistics
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from functools import cached_property
from typing import Final, Self

from shared.engines.parameters import RenderParameters
from shared.jobs.job import Job, QueuePlace
from shared.lifecycle import Status

ENOUGH: Final = 5
"""Similar jobs that must have ended before there is an estimate."""

LIKE: Final = 1.5
"""Two clips are similar if neither is this many times as much work as the other."""

STEPPED: Final = 1000
"""Jobs ahead whose ends are followed one by one; if there are more, they are divided among the
workers."""


class Unknown(StrEnum):
    """Why there is no estimate."""

    NO_WORKER = "no_worker"
    PAUSED = "paused"
    TOO_FEW_ENDED = "too_few_like_jobs_ended"
    OVERDUE = "overdue"


@dataclass(frozen=True)
class Rendered:
    """One finished clip, and the time from its start to its end."""

    seconds: float
    work: int
    quality: str


@dataclass(frozen=True)
class Like:
    """Clips similar to one: how many there are, and their median if they are enough."""

    count: int
    seconds: float | None


def work(parameters: RenderParameters) -> int:
    """Return the amount of work, in pixels through all steps."""
    pixels = parameters.width * parameters.height
    return pixels * parameters.num_frames * parameters.num_inference_steps


@dataclass(frozen=True)
class Estimate:
    """Seconds from now; an unknown value is None, and `unknown` says why."""

    start_seconds: float | None = None
    render_seconds: float | None = None
    like_jobs: int = 0
    unknown: Unknown | None = None

    @property
    def end_seconds(self) -> float | None:
        if self.start_seconds is None or self.render_seconds is None:
            return None
        return self.start_seconds + self.render_seconds


@dataclass(frozen=True)
class Expected:
    """When a live job is expected to start and to end."""

    start_at: datetime | None = None
    end_at: datetime | None = None
    unknown: Unknown | None = None


@dataclass(frozen=True, kw_only=True)
class EngineQueue:
    """One engine's queue at one moment.

    `marks` are places in the queue, (claim_at, jobs up to and with it), rising: each of the first,
    and then one for every so many jobs. `running_left` has the remaining seconds of each running
    job, None if they are not known. `judged` ended jobs had an estimate when they were made, and
    for `right` of them it was right.
    """

    engine: str
    queued: int = 0
    running: int = 0
    workers: int = 0
    oldest_seconds: float | None = None
    marks: Sequence[tuple[datetime, int]] = ()
    running_left: Sequence[float | None] = ()
    rendered: Sequence[Rendered] = ()
    judged: int = 0
    right: int = 0
    is_paused: bool = False

    @cached_property
    def render_seconds(self) -> float | None:
        """The time of recent clips of this engine, of any size."""
        if not self.rendered:
            return None
        return statistics.median(one.seconds for one in self.rendered)

    def ahead(self, claim_at: datetime) -> int:
        """Return how many queued jobs go before that place."""
        before = bisect_left(self.marks, claim_at, key=lambda mark: mark[0])
        return self.marks[before - 1][1] if before else 0

    def start_seconds(self, ahead: int) -> float | None:
        """Return when a job starts that has so many jobs ahead; None if nothing is known."""
        usual = self.render_seconds
        if self.is_paused or not self.workers:
            return None
        left = [usual if one is None else one for one in self.running_left[: self.workers]]
        free = [0.0] * (self.workers - len(left))
        if usual is None or None in left:
            return 0.0 if len(free) > ahead else None
        slots = free + [one for one in left if one is not None]
        if ahead > STEPPED:
            return (sum(slots) + ahead * usual) / self.workers
        heapq.heapify(slots)
        for _ in range(ahead):
            heapq.heapreplace(slots, slots[0] + usual)
        return slots[0]

    def like(self, parameters: RenderParameters) -> Like:
        """Return how many similar clips ended here, and their times."""
        asked, quality = work(parameters), parameters.quality
        known = self._like.get((asked, quality))
        if known is None:
            seconds = [
                one.seconds
                for one in self.rendered
                if one.quality == quality and asked <= one.work * LIKE and one.work <= asked * LIKE
            ]
            enough = len(seconds) >= ENOUGH
            known = Like(len(seconds), statistics.median(seconds) if enough else None)
            self._like[asked, quality] = known
        return known

    @cached_property
    def _like(self) -> dict[tuple[int, str], Like]:
        """The searches on this board so far, because many callers ask about jobs of one kind."""
        return {}

    def estimate(self, parameters: RenderParameters, *, ahead: int | None = None) -> Estimate:
        """Return when a clip would start and end, with all that is queued ahead of it."""
        like = self.like(parameters)
        start = self.start_seconds(self.queued if ahead is None else ahead)
        unknown = None
        if self.is_paused:
            unknown = Unknown.PAUSED
        elif not self.workers:
            unknown = Unknown.NO_WORKER
        elif like.seconds is None or start is None:
            unknown = Unknown.TOO_FEW_ENDED
        return Estimate(start, like.seconds, like.count, unknown)


@dataclass(frozen=True)
class QueueBoard:
    """Every engine's queue at one moment of Postgres' clock."""

    at: datetime
    engines: Mapping[str, EngineQueue]

    def engine(self, name: str) -> EngineQueue:
        return self.engines.get(name) or EngineQueue(engine=name)

    def aged(self, age: timedelta) -> Self:
        """Return the board at this age: its times are counted from now."""
        return replace(self, at=self.at + age)

    def place(self, job: Job) -> QueuePlace | None:
        """Return the place of a queued job; None once it runs or has ended."""
        if job.status is not Status.QUEUED:
            return None
        queue = self.engine(job.engine)
        ahead = queue.ahead(job.claim_at)
        start = queue.start_seconds(ahead)
        return QueuePlace(ahead + 1, start if queue.rendered else None)

    def expected(self, job: Job) -> Expected | None:
        """Return when a live job starts and ends; None once it has ended."""
        queue = self.engine(job.engine)
        if job.status is Status.QUEUED:
            found = queue.estimate(job.parameters, ahead=queue.ahead(job.claim_at))
            start_at = self._after(found.start_seconds)
            if start_at is not None and job.due_at > start_at:
                start_at = job.due_at
            took = found.render_seconds
            end_at = None if start_at is None or took is None else start_at + _whole(took)
            return Expected(start_at, end_at, found.unknown)
        if job.status is Status.RUNNING:
            return self._running(job, queue)
        return None

    def _running(self, job: Job, queue: EngineQueue) -> Expected:
        assert job.started_at is not None
        if job.eta_seconds is not None:
            return Expected(job.started_at, self._after(job.eta_seconds))
        usual = queue.like(job.parameters).seconds
        if usual is None:
            return Expected(job.started_at, None, Unknown.TOO_FEW_ENDED)
        end_at = job.started_at + _whole(usual)
        if end_at < self.at:
            return Expected(job.started_at, None, Unknown.OVERDUE)
        return Expected(job.started_at, end_at)

    def _after(self, seconds: float | None) -> datetime | None:
        return None if seconds is None else (self.at + _whole(seconds)).replace(microsecond=0)


def _whole(seconds: float) -> timedelta:
    """Return the time in whole seconds, because it is not known more exactly."""
    return timedelta(seconds=round(seconds))
