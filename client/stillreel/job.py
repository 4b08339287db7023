"""A job as the service shows it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

TERMINAL: Final = frozenset({"succeeded", "failed", "canceled"})


@dataclass(frozen=True)
class Progress:
    """How far a render is; `eta_seconds` is None until it is known."""

    percent: int
    step: int | None = None
    total_steps: int | None = None
    eta_seconds: float | None = None


@dataclass(frozen=True)
class Place:
    """The place of a queued job; position 1 is next."""

    position: int
    eta_seconds: float | None = None


@dataclass(frozen=True)
class File:
    """A file of a finished job."""

    url: str
    sha256: str | None = None
    bytes: int | None = None
    width: int | None = None
    height: int | None = None
    fps: float | None = None
    num_frames: int | None = None
    duration_seconds: float | None = None


@dataclass(frozen=True)
class Output:
    """The files of a succeeded job; files that were not asked for are None."""

    video: File
    ai_generated: bool | None = None
    poster: File | None = None
    gif: File | None = None
    spritesheet: File | None = None


@dataclass(frozen=True)
class JobError:
    code: str
    message: str
    retryable: bool = False


@dataclass(frozen=True)
class Job:
    """One clip that was asked for; `raw` is the service's whole answer about it.

    `status` is queued, running, succeeded, failed or canceled. `stage` is what a running job does.
    `version` grows with every change.
    """

    id: str
    status: str
    model: str
    version: int
    progress: Progress
    created_at: datetime
    seed: int
    stage: str | None = None
    queue: Place | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    expires_at: datetime | None = None
    input: Mapping[str, Any] = field(default_factory=dict)
    output: Output | None = None
    preview_url: str | None = None
    error: JobError | None = None
    metrics: Mapping[str, Any] = field(default_factory=dict)
    attempt: int = 0
    failures: int = 0
    priority: str = "normal"
    batch_id: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @property
    def has_ended(self) -> bool:
        return self.status in TERMINAL


@dataclass(frozen=True)
class Event:
    """A change of one job; `job` is None if it was deleted."""

    job_id: str
    job: Job | None
