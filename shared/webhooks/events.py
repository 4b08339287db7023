"""The events that a webhook can tell of: this is the one list, with what makes each happen."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, Literal

from shared.lifecycle import Status

EventType = Literal["job.started", "job.succeeded", "job.failed", "job.canceled"]
BatchEventType = Literal["batch.finished"]
VideoEventType = Literal["video.completed", "video.failed"]
"""What OpenAI's clients call an end; an endpoint may be registered for these names instead."""

EndpointEvent = Literal[EventType, BatchEventType, VideoEventType]

EVENTS: Final[Mapping[EndpointEvent, frozenset[Status]]] = MappingProxyType(
    {
        "job.started": frozenset({Status.RUNNING}),
        "job.succeeded": frozenset({Status.SUCCEEDED}),
        "job.failed": frozenset({Status.FAILED}),
        "job.canceled": frozenset({Status.CANCELED}),
        "batch.finished": frozenset(),  # The last job of a batch to end tells of it.
        "video.completed": frozenset({Status.SUCCEEDED}),
        "video.failed": frozenset({Status.FAILED, Status.CANCELED}),  # They know no cancel.
    }
)
"""Each event with the statuses that a job enters when it happens; an event can have none."""

BATCH_FINISHED: Final[BatchEventType] = "batch.finished"
TERMINAL_EVENTS: Final[tuple[EventType, ...]] = ("job.succeeded", "job.failed", "job.canceled")


def events_of(status: Status) -> list[EndpointEvent]:
    """Return what happens when a job enters a status: nothing where it is queued."""
    return [event for event, statuses in EVENTS.items() if status in statuses]
