"""A job as OpenAI's clients see it."""

from datetime import datetime
from typing import Final, Literal

from pydantic import BaseModel

from api.responses.listing import ListOf
from shared.jobs.job import Job, public_id
from shared.jobs.view import percent
from shared.lifecycle import Status

STATUSES: Final = {
    Status.QUEUED: "queued",
    Status.RUNNING: "in_progress",
    Status.SUCCEEDED: "completed",
    Status.FAILED: "failed",
    Status.CANCELED: "failed",  # OpenAI's videos have no status for canceled.
}


class VideoError(BaseModel):
    code: str
    message: str


class Video(BaseModel):
    """A job in OpenAI's shape; times are Unix seconds. The fields after `error` are ours.

    `size` and `seconds` are the clip's own, not those that were asked for.
    """

    id: str
    object: Literal["video"] = "video"
    model: str
    status: str
    progress: int
    created_at: int
    completed_at: int | None
    expires_at: int | None
    prompt: str | None
    seconds: str
    size: str
    remixed_from_video_id: str | None
    error: VideoError | None
    seed: int
    fps: int
    num_frames: int
    warnings: list[str]


class VideoList(ListOf[Video]):
    """One page of a listing; the next one starts `after` its `last_id`."""


class DeletedVideo(BaseModel):
    id: str
    object: Literal["video.deleted"] = "video.deleted"
    deleted: Literal[True] = True


def video(job: Job) -> Video:
    parameters = job.parameters
    return Video(
        id=job.public_id,
        model=job.engine,
        status=STATUSES[job.status],
        progress=percent(job),
        created_at=int(job.created_at.timestamp()),
        completed_at=_seconds(job.finished_at) if job.status is Status.SUCCEEDED else None,
        expires_at=_seconds(job.expires_at),
        prompt=parameters.prompt or None,
        seconds=f"{parameters.num_frames / parameters.fps:g}",
        size=f"{parameters.width}x{parameters.height}",
        remixed_from_video_id=None if job.parent_id is None else public_id(job.parent_id),
        error=_error(job),
        seed=parameters.seed,
        fps=parameters.fps,
        num_frames=parameters.num_frames,
        warnings=list(job.warnings),
    )


def _error(job: Job) -> VideoError | None:
    if job.status is Status.CANCELED:
        return VideoError(code="canceled", message="the job was canceled")
    if job.status is Status.FAILED:
        return VideoError(code=job.error_code or "internal", message=job.error_message or "")
    return None


def _seconds(at: datetime | None) -> int | None:
    return None if at is None else int(at.timestamp())
