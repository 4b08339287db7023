"""The events that a webhook can tell of."""

from typing import Final, Literal

EventType = Literal["job.started", "job.succeeded", "job.failed", "job.canceled"]
TERMINAL_EVENTS: Final[tuple[EventType, ...]] = ("job.succeeded", "job.failed", "job.canceled")
