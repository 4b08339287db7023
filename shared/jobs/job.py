"""A job as a value: one row of the table, frozen at one version."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from datetime import datetime
from enum import StrEnum
from typing import Any, Final, Self
from uuid import UUID

from pydantic import BaseModel, ConfigDict
from sqlalchemy import RowMapping

from shared.engines.parameters import RenderParameters
from shared.ids import PublicId
from shared.jobs.inputs import Input, read_inputs
from shared.lifecycle import TERMINAL, Stage, Status

JOB_ID: Final = PublicId("job_", "no such job")
public_id: Final = JOB_ID.show
parse_id: Final = JOB_ID.parse
no_such_job: Final = JOB_ID.not_found


class Priority(StrEnum):
    LOW = "low"
    NORMAL = "normal"
    HIGH = "high"


class Variant(StrEnum):
    """The files a job can have; a preview exists only during the render, not in the storage."""

    VIDEO = "video"
    POSTER = "poster"
    GIF = "gif"
    SPRITESHEET = "spritesheet"
    INPUT = "input"
    PREVIEW = "preview"


class FileFacts(BaseModel):
    """The facts about a finished job's file; sizes in pixels, None for what does not apply."""

    model_config = ConfigDict(frozen=True)

    content_type: str
    bytes: int
    sha256: str
    width: int | None = None
    height: int | None = None
    fps: int | None = None
    num_frames: int | None = None
    duration_seconds: float | None = None
    columns: int | None = None
    rows: int | None = None


class Artifact(FileFacts):
    """A finished job's file as it is stored."""

    key: str


class Result(BaseModel):
    """What a succeeded job stored; `ai_generated` is what the engine declares about itself."""

    model_config = ConfigDict(frozen=True)

    ai_generated: bool
    artifacts: dict[Variant, Artifact]


@dataclass(frozen=True, kw_only=True)
class Job:
    """One job at one `version`; times are aware UTC from Postgres' clock.

    `inputs` is filled in by statements that select them, as for a worker that claims the job.
    """

    id: UUID
    owner_id: UUID
    status: Status
    attempt: int
    failures: int
    version: int
    engine: str
    engine_revision: str
    parameters: RenderParameters
    outputs: tuple[str, ...]
    priority: Priority
    image_sha256: str
    image_width: int
    image_height: int
    gpu_bytes: int | None
    price_micros: int | None
    needs: tuple[str, ...]
    source: str
    request_id: str | None
    batch_id: UUID | None
    parent_id: UUID | None
    idempotency_fingerprint: str | None
    webhook_url: str | None
    webhook_event_types: tuple[str, ...]
    metadata: dict[str, str]
    warnings: tuple[str, ...]
    created_at: datetime
    claim_at: datetime
    due_at: datetime
    queue_deadline: datetime | None
    worker: str | None
    lease_until: datetime | None
    started_at: datetime | None
    finished_at: datetime | None
    stage: Stage | None
    step: int | None
    total_steps: int | None
    eta_seconds: float | None
    preview_step: int | None
    error_code: str | None
    error_message: str | None
    error_retryable: bool | None
    result: Result | None
    metrics: dict[str, Any]
    retain_seconds: int
    expires_at: datetime | None
    expired_at: datetime | None
    deleted_at: datetime | None
    inputs: tuple[Input, ...] = ()
    link_epoch: int | None = None
    """The number of its owner's links; None if the row was read without it."""

    @classmethod
    def from_row(cls, row: RowMapping) -> Self:
        values = {name: row[name] for name in _COLUMNS}
        values["link_epoch"] = row.get("link_epoch")
        values["status"] = Status(row["status"])
        values["priority"] = Priority(row["priority"])
        values["parameters"] = RenderParameters.model_validate(row["parameters"])
        values["stage"] = None if row["stage"] is None else Stage(row["stage"])
        values["result"] = None if row["result"] is None else Result.model_validate(row["result"])
        for name in ("outputs", "webhook_event_types", "warnings", "needs"):
            values[name] = tuple(row[name] or ())
        job = cls(**values)
        return replace(job, inputs=job.inputs_in(row["inputs"])) if "inputs" in row else job

    def inputs_in(self, rows: Sequence[Any]) -> tuple[Input, ...]:
        """Return the job's inputs; a gateway of the last release wrote no row for its image."""
        return read_inputs(rows) or (
            Input.first(
                self.id,
                sha256=self.image_sha256,
                width=self.image_width,
                height=self.image_height,
            ),
        )

    @property
    def public_id(self) -> str:
        return public_id(self.id)

    @property
    def is_terminal(self) -> bool:
        return self.status in TERMINAL


_APART: Final = {"inputs", "link_epoch"}
"""Columns that are read by joins, only if they are needed."""

_COLUMNS: Final = tuple(field.name for field in fields(Job) if field.name not in _APART)


@dataclass(frozen=True)
class QueuePlace:
    """The place of a queued job among its engine's jobs; position 1 is next."""

    position: int
    eta_seconds: float | None
