"""A job as Replicate's clients and webhooks see it: our own view with other names."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final, Literal

from pydantic import BaseModel

from shared.jobs.job import Job
from shared.jobs.view import JobView
from shared.lifecycle import Status
from shared.webhooks.events import TERMINAL_EVENTS, EventType

SOURCE: Final = "replicate"
"""The source of jobs that came by this protocol: their own webhook sends this view."""

OWNER: Final = "stillreel"
PREFIX: Final = "/compat/replicate/v1"
BAR: Final = 20

STATUSES: Final = {
    Status.QUEUED: "starting",
    Status.RUNNING: "processing",
    Status.SUCCEEDED: "succeeded",
    Status.FAILED: "failed",
    Status.CANCELED: "canceled",
}

EVENTS: Final[Mapping[str, tuple[EventType, ...]]] = {
    "start": ("job.started",),
    "output": ("job.succeeded",),
    "logs": ("job.started", *TERMINAL_EVENTS),
    "completed": TERMINAL_EVENTS,
}
"""Our events for each of Replicate's: the one output of a clip comes when it has succeeded, and
its log is sent at the start and at the end."""


class Prediction(BaseModel):
    """A job in Replicate's shape; `output` is a link to the clip."""

    id: str
    model: str
    version: str
    status: str
    input: dict[str, Any]
    output: str | None
    logs: str
    error: str | None
    metrics: dict[str, Any]
    created_at: datetime
    started_at: datetime | None
    completed_at: datetime | None
    urls: dict[str, str]
    source: Literal["api"] = "api"
    data_removed: bool
    warnings: list[str]


def version_id(engine: str, revision: str) -> str:
    return f"{engine}@{revision}"


def prediction(job: Job, view: JobView, *, base_url: str) -> Prediction:
    """Return a job's view in Replicate's shape.

    Args:
        base_url: the beginning of links, as in the view.
    """
    here = f"{base_url}{PREFIX}/predictions/{view.id}"
    return Prediction(
        id=view.id,
        model=f"{OWNER}/{view.model}",
        version=version_id(job.engine, job.engine_revision),
        status=STATUSES[view.status],
        input={**view.input.model_dump(mode="json", exclude_none=True), "seed": view.seed},
        output=None if view.output is None else view.output.video.url,
        logs=_logs(view),
        error=None if view.error is None else f"{view.error.code}: {view.error.message}",
        metrics=_metrics(view),
        created_at=view.created_at,
        started_at=view.started_at,
        completed_at=view.finished_at,
        urls={"get": here, "cancel": f"{here}/cancel"},
        data_removed=job.expired_at is not None,
        warnings=view.warnings,
    )


def _logs(view: JobView) -> str:
    """Return the one line from which Replicate's clients read the progress."""
    at = view.progress
    if at.step is None or at.total_steps is None:
        return ""
    bar = "#" * (BAR * at.percent // 100)
    return f"{at.percent:3}%|{bar:<{BAR}}| {at.step}/{at.total_steps}\n"


def _metrics(view: JobView) -> dict[str, Any]:
    metrics = dict(view.metrics)
    if view.finished_at is not None:
        metrics["total_time"] = (view.finished_at - view.created_at).total_seconds()
        if view.started_at is not None:
            metrics["predict_time"] = (view.finished_at - view.started_at).total_seconds()
    return metrics
