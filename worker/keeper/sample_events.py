"""The body of a test event: a job that looks real but does not exist."""

from datetime import UTC, datetime
from typing import Final

from pydantic import BaseModel

from shared.engines.spec import Quality
from shared.jobs.batch import BatchView, sample_batch
from shared.jobs.job import Priority
from shared.jobs.view import ArtifactView, ErrorView, InputView, JobView, OutputView, ProgressView
from shared.lifecycle import Status
from shared.webhooks.events import BATCH_FINISHED, events_of

SAMPLE_ID: Final = f"job_{'0' * 32}"
AT: Final = datetime(2026, 1, 1, tzinfo=UTC)


class SampleMessage(BaseModel):
    """The data of webhook.test, which is not a job's event."""

    message: str = "this is a test of the webhook"


def sample(event: str) -> JobView | BatchView | SampleMessage:
    """Return the data of a test: a job in the event's state, a batch, or else a greeting."""
    if event == BATCH_FINISHED:
        return sample_batch(AT)
    for status in Status:
        if event in events_of(status):
            return _job(status)
    return SampleMessage()


def _job(status: Status) -> JobView:
    is_over = status is not Status.RUNNING
    is_done = status is Status.SUCCEEDED
    return JobView(
        id=SAMPLE_ID,
        status=status,
        stage=None,
        progress=ProgressView(
            percent=100 if is_done else 0, step=None, total_steps=None, eta_seconds=None
        ),
        queue=None,
        created_at=AT,
        started_at=AT,
        finished_at=AT if is_over else None,
        expires_at=AT if is_over else None,
        model="camera",
        input=_INPUT,
        approximate=False,
        seed=0,
        output=OutputView(ai_generated=False, video=_VIDEO) if is_done else None,
        error=_ERROR if status is Status.FAILED else None,
        metrics={},
        attempt=1,
        failures=0,
        priority=Priority.NORMAL,
        batch_id=None,
        parent_id=None,
        metadata={},
        version=2,
        warnings=[],
    )


_INPUT: Final = InputView(
    prompt="a sample: no such job exists",
    negative_prompt="",
    resolution="512p",
    width=512,
    height=512,
    fit="crop",
    focus=(0.5, 0.5),
    num_frames=16,
    seconds=2.0,
    fps=8,
    quality=Quality.STANDARD,
    num_inference_steps=50,
    guidance_scale=9.0,
    image_sha256="0" * 64,
    image_width=512,
    image_height=512,
    last_frame=False,
    keyframes=(),
)

_VIDEO: Final = ArtifactView(
    url=f"https://example.org/v1/jobs/{SAMPLE_ID}/content?variant=video&link=1764633600.0.a-signature",
    content_type="video/mp4",
    bytes=0,
    sha256="0" * 64,
    width=512,
    height=512,
    fps=8,
    num_frames=16,
    duration_seconds=2.0,
)

_ERROR: Final = ErrorView(code="sample", message="this is a test: nothing failed", retryable=False)
