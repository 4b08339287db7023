"""A batch: up to a hundred jobs that are submitted, canceled and fetched as one."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any, Final, Literal, Self
from uuid import UUID

from pydantic import BaseModel
from sqlalchemy import RowMapping

from shared.ids import PublicId

BATCH_ID: Final = PublicId("batch_", "no such batch")
parse_batch_id: Final = BATCH_ID.parse
no_such_batch: Final = BATCH_ID.not_found

MAX_ITEMS: Final = 100


@dataclass(frozen=True, kw_only=True)
class NewBatch:
    """What a submit writes about the batch itself; its end is sent to `webhook_url`.

    `webhook_headers` are sent with that, and are sealed.
    """

    id: UUID
    owner_id: UUID
    metadata: Mapping[str, str]
    webhook_url: str | None
    idempotency_key: str | None
    idempotency_fingerprint: str
    webhook_headers: str | None = None


@dataclass(frozen=True, kw_only=True)
class Batch:
    """One row: how many of its jobs ended in which way. Deleted jobs stay counted."""

    id: UUID
    owner_id: UUID
    metadata: dict[str, str]
    idempotency_fingerprint: str | None
    total: int
    succeeded: int
    failed: int
    canceled: int
    created_at: datetime
    canceled_at: datetime | None
    finished_at: datetime | None
    link_epoch: int | None = None
    """The number of its owner's links; None if the row was read without it."""

    @classmethod
    def from_row(cls, row: RowMapping) -> Self:
        names = [field.name for field in fields(cls) if field.name != "link_epoch"]
        return cls(**{name: row[name] for name in names}, link_epoch=row.get("link_epoch"))

    @property
    def public_id(self) -> str:
        return BATCH_ID.show(self.id)


@dataclass(frozen=True)
class LiveCounts:
    """A batch's jobs that have not ended: how many wait and run, and the sum of their percents."""

    queued: int = 0
    running: int = 0
    percents: int = 0


class CountsView(BaseModel):
    total: int
    queued: int
    running: int
    succeeded: int
    failed: int
    canceled: int


class BatchProgressView(BaseModel):
    percent: int


class BatchView(BaseModel):
    """A batch as clients see it, and as `batch.finished` sends it.

    It is `finished` once every job has ended, in any way. `content_url` is then the address of one
    zip of all clips; like a job's links it needs no key and expires. `percent` is the mean over
    the jobs; an ended job counts as 100.
    """

    id: str
    object: Literal["batch"] = "batch"
    status: Literal["in_progress", "finished"]
    counts: CountsView
    progress: BatchProgressView
    created_at: datetime
    canceled_at: datetime | None
    finished_at: datetime | None
    content_url: str | None
    metadata: dict[str, str]


def batch_view(batch: Batch, live: LiveCounts, *, content_url: str | None) -> BatchView:
    """Return the batch as clients see it.

    Args:
        content_url: the address of its zip, which is shown once it is finished.
    """
    ended = batch.succeeded + batch.failed + batch.canceled
    is_finished = batch.finished_at is not None
    # Read a moment after the row, so a job that is neither counted nor seen alive has just ended.
    percent = (100 * ended + live.percents) // batch.total if batch.total else 100
    return BatchView(
        id=batch.public_id,
        status="finished" if is_finished else "in_progress",
        counts=CountsView(
            total=batch.total,
            queued=live.queued,
            running=live.running,
            succeeded=batch.succeeded,
            failed=batch.failed,
            canceled=batch.canceled,
        ),
        progress=BatchProgressView(percent=100 if is_finished else min(99, percent)),
        created_at=batch.created_at,
        canceled_at=batch.canceled_at,
        finished_at=batch.finished_at,
        content_url=content_url if is_finished else None,
        metadata=batch.metadata,
    )


def sample_batch(at: datetime) -> BatchView:
    """Return the body of a test of `batch.finished`; no such batch exists."""
    values: dict[str, Any] = {"total": 2, "queued": 0, "running": 0, "succeeded": 2, "failed": 0}
    name = BATCH_ID.show(UUID(int=0))
    return BatchView(
        id=name,
        status="finished",
        counts=CountsView(**values, canceled=0),
        progress=BatchProgressView(percent=100),
        created_at=at,
        canceled_at=None,
        finished_at=at,
        content_url=f"https://example.org/v1/batches/{name}/content",
        metadata={},
    )
