"""The events that a webhook can tell of: this is the one list."""

from typing import Final, Literal

EventType = Literal["job.started", "job.succeeded", "job.failed", "job.canceled"]
TERMINAL_EVENTS: Final[tuple[EventType, ...]] = ("job.succeeded", "job.failed", "job.canceled")

BatchEventType = Literal["batch.finished"]
BATCH_FINISHED: Final[BatchEventType] = "batch.finished"
"""No status of a job: the last job of a batch to end tells of it."""
