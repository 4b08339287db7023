"""The events that a webhook can send: the one list, with the statuses that cause each event."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, Literal

from shared.lifecycle import Status

EventType = Literal["job.started", "job.succeeded", "job.failed", "job.canceled"]
BatchEventType = Literal["batch.finished"]
VideoEventType = Literal["video.completed", "video.failed"]
"""OpenAI's names for the ends of a job; an endpoint may be registered for these names instead."""

EndpointEvent = Literal[EventType, BatchEventType, VideoEventType]

EVENTS: Final[Mapping[EndpointEvent, frozenset[Status]]] = MappingProxyType(
    {
        "job.started": frozenset({Status.RUNNING}),
        "job.succeeded": frozenset({Status.SUCCEEDED}),
        "job.failed": frozenset({Status.FAILED}),
        "job.canceled": frozenset({Status.CANCELED}),
        "batch.finished": frozenset(),  # The last job of a batch to end causes it.
        "video.completed": frozenset({Status.SUCCEEDED}),
        # OpenAI's clients know no canceled videos.
        "video.failed": frozenset({Status.FAILED, Status.CANCELED}),
    }
)
"""Each event with the statuses that a job enters when it happens; an event may have none."""

BATCH_FINISHED: Final[BatchEventType] = "batch.finished"
TERMINAL_EVENTS: Final[tuple[EventType, ...]] = ("job.succeeded", "job.failed", "job.canceled")


def events_of(status: Status) -> list[EndpointEvent]:
    """Return the events when a job enters a status: none if it is queued."""
    return [event for event, statuses in EVENTS.items() if status in statuses]
