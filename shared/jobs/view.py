"""A job as every client sees it."""

import hashlib
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final, Literal

from pydantic import BaseModel

from shared.engines.spec import Quality
from shared.jobs.batch import BATCH_ID
from shared.jobs.estimates import Expected, Unknown
from shared.jobs.job import (
    Artifact,
    FileFacts,
    Job,
    Priority,
    QueuePlace,
    Variant,
    public_id,
)
from shared.jobs.links import Links
from shared.lifecycle import Stage, Status


class ProgressView(BaseModel):
    percent: int
    step: int | None
    total_steps: int | None
    eta_seconds: float | None


class QueueView(BaseModel):
    position: int
    eta_seconds: float | None


class ExpectedView(BaseModel):
    """When a live job starts and ends, by clips that were rendered here; `unknown` says why not.

    `too_few_like_jobs_ended`: five similar jobs must have ended. `no_worker`: no worker serves its
    model now. `overdue`: it runs longer than those jobs did.
    """

    start_at: datetime | None
    end_at: datetime | None
    unknown: Unknown | None


class InputView(BaseModel):
    """The resolved request, and the sha256 of the image after it was normalised.

    `keyframes` are the frames that have images of their own: the inputs `keyframe_N`; `last_frame`
    is the input of that name.
    """

    prompt: str
    negative_prompt: str
    resolution: str | None
    width: int
    height: int
    fit: str
    focus: tuple[float, float]
    num_frames: int
    seconds: float
    fps: int
    quality: Quality
    num_inference_steps: int
    guidance_scale: float
    image_sha256: str
    image_width: int
    image_height: int
    last_frame: bool
    keyframes: tuple[int, ...]


class ArtifactView(FileFacts):
    """A finished job's file as clients see it."""

    url: str


class OutputView(BaseModel):
    """The files of a succeeded job; `ai_generated` is false for camera moves."""

    ai_generated: bool
    video: ArtifactView
    poster: ArtifactView | None = None
    gif: ArtifactView | None = None
    spritesheet: ArtifactView | None = None


class ErrorView(BaseModel):
    code: str
    message: str
    retryable: bool


class JobView(BaseModel):
    """A job as clients see it: the body of GET, of listings' items and of webhooks.

    `approximate` is true for a draft; `metrics` then has its plan. `preview_url` is a small image
    of the unfinished clip, with a new address for each new image.
    """

    id: str
    object: Literal["job"] = "job"
    status: Status
    stage: Stage | None
    progress: ProgressView
    queue: QueueView | None
    expected: ExpectedView | None = None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    expires_at: datetime | None
    model: str
    input: InputView
    approximate: bool
    seed: int
    output: OutputView | None
    preview_url: str | None = None
    error: ErrorView | None
    metrics: dict[str, Any]
    attempt: int
    failures: int
    priority: Priority
    batch_id: str | None
    parent_id: str | None
    metadata: dict[str, str]
    version: int
    warnings: list[str]


def job_view(
    job: Job,
    *,
    links: Links,
    base_url: str,
    now: datetime,
    place: QueuePlace | None = None,
    expected: Expected | None = None,
) -> JobView:
    """Return the job as clients see it.

    Args:
        links: makes the files' addresses, which need no key from `now` on.
        base_url: the beginning of links, without a slash at the end; "" gives relative links.
        place: the place of a queued job, if it was looked up.
        expected: the expected times of a live job, if they were looked up.
    """
    return JobView(
        id=job.public_id,
        status=job.status,
        stage=job.stage,
        progress=_progress(job),
        queue=None if place is None else QueueView(**place.__dict__),
        expected=None if expected is None else ExpectedView(**expected.__dict__),
        created_at=job.created_at,
        started_at=job.started_at,
        finished_at=job.finished_at,
        expires_at=job.expires_at,
        model=job.engine,
        input=_input(job),
        approximate=job.parameters.approximate,
        seed=job.parameters.seed,
        output=_output(job, links, base_url, now),
        preview_url=_preview(job, links, base_url, now),
        error=_error(job),
        metrics={name: each for name, each in job.metrics.items() if name != "warnings"},
        attempt=job.attempt,
        failures=job.failures,
        priority=job.priority,
        batch_id=None if job.batch_id is None else BATCH_ID.show(job.batch_id),
        parent_id=None if job.parent_id is None else public_id(job.parent_id),
        metadata=job.metadata,
        version=job.version,
        warnings=[*job.warnings, *job.metrics.get("warnings", ())],
    )


def _progress(job: Job) -> ProgressView:
    return ProgressView(
        percent=percent(job),
        # Beats come at most once a second, so the last steps are seldom among them.
        step=job.total_steps if job.status is Status.SUCCEEDED else job.step,
        total_steps=job.total_steps,
        eta_seconds=job.eta_seconds,
    )


def _input(job: Job) -> InputView:
    return InputView(
        **job.parameters.model_dump(exclude={"seed", "approximate"}),
        seconds=job.parameters.seconds,
        image_sha256=job.image_sha256,
        image_width=job.image_width,
        image_height=job.image_height,
    )


# The beginning and end of each stage on the bar, in percent of a typical render.
_SPANS: Final[Mapping[Stage, tuple[int, int]]] = {
    Stage.LOADING: (0, 0),
    Stage.COMPILING: (1, 1),
    Stage.ENCODING_INPUTS: (2, 4),
    Stage.DENOISING: (5, 89),
    Stage.SUBMITTING: (3, 4),
    Stage.RENDERING_ELSEWHERE: (5, 86),
    Stage.DOWNLOADING: (87, 89),
    Stage.DECODING: (90, 96),
    Stage.MUXING: (97, 97),
    Stage.UPLOADING: (98, 98),
}


def percent(job: Job) -> int:
    """Return how far a job is, 0 to 100; 100 only when it succeeded."""
    if job.status is Status.SUCCEEDED:
        return 100
    return progress_percent(job.stage, job.step, job.total_steps)


def progress_percent(stage: Stage | None, step: int | None, total_steps: int | None) -> int:
    """Return how far a stage is along the whole bar; 0 if nothing is being done."""
    if stage is None:
        return 0
    begin, end = _SPANS[stage]
    done = (step or 0) / total_steps if total_steps else 0.0
    return begin + int((end - begin) * min(1.0, done))


def etag(view: JobView) -> str:
    """Return the weak validator of a job's body, without the parts that change by themselves.

    These are links, and the expected times of a live job: with them, a client that waits for a
    change would get an answer at once, again and again.
    """
    body = view.model_dump_json(
        exclude={
            "output": {"__all__": {"url"}},
            "queue": {"eta_seconds"},
            "expected": True,
            "preview_url": True,
        }
    )
    return f'W/"{view.version}-{hashlib.sha256(body.encode()).hexdigest()[:16]}"'


def _output(job: Job, links: Links, base_url: str, now: datetime) -> OutputView | None:
    if job.result is None:
        return None
    views = {
        str(variant): _artifact(artifact, f"{base_url}{links.path(job, variant, now=now)}")
        for variant, artifact in job.result.artifacts.items()
    }
    return OutputView(ai_generated=job.result.ai_generated, **views)


def _preview(job: Job, links: Links, base_url: str, now: datetime) -> str | None:
    if job.status is not Status.RUNNING or job.preview_step is None:
        return None
    link = links.path(job, Variant.PREVIEW, now=now)
    return f"{base_url}{link}&step={job.preview_step}"


def _artifact(artifact: Artifact, url: str) -> ArtifactView:
    return ArtifactView(url=url, **artifact.model_dump(exclude={"key"}))


def _error(job: Job) -> ErrorView | None:
    if job.status is not Status.FAILED or job.error_code is None:
        return None
    return ErrorView(
        code=job.error_code,
        message=job.error_message or "",
        retryable=bool(job.error_retryable),
    )
