"""The states of a job, and the only list of which may follow which."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from shared.errors import TransitionRefused


class Status(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"


class Event(StrEnum):
    SUBMIT = "submit"
    CLAIM = "claim"
    HAND_BACK = "hand_back"
    RETRY = "retry"
    LOSE = "lose"
    COMPLETE = "complete"
    FAIL = "fail"
    CANCEL = "cancel"


class Stage(StrEnum):
    """A running job's current work: for clients to see and for stall limits, never a state."""

    LOADING = "loading"
    COMPILING = "compiling"
    ENCODING_INPUTS = "encoding_inputs"
    DENOISING = "denoising"
    SUBMITTING = "submitting"
    RENDERING_ELSEWHERE = "rendering_elsewhere"
    DOWNLOADING = "downloading"
    DECODING = "decoding"
    MUXING = "muxing"
    UPLOADING = "uploading"


@dataclass(frozen=True)
class Transition:
    """The states in which an event may come, and the next state; no source means a new row."""

    sources: frozenset[Status]
    target: Status


TERMINAL: Final = frozenset({Status.SUCCEEDED, Status.FAILED, Status.CANCELED})
LIVE: Final = frozenset({Status.QUEUED, Status.RUNNING})

TRANSITIONS: Final[Mapping[Event, Transition]] = MappingProxyType(
    {
        Event.SUBMIT: Transition(frozenset(), Status.QUEUED),
        Event.CLAIM: Transition(frozenset({Status.QUEUED}), Status.RUNNING),
        Event.HAND_BACK: Transition(frozenset({Status.RUNNING}), Status.QUEUED),
        Event.RETRY: Transition(frozenset({Status.RUNNING}), Status.QUEUED),
        Event.LOSE: Transition(frozenset({Status.RUNNING}), Status.QUEUED),
        Event.COMPLETE: Transition(frozenset({Status.RUNNING}), Status.SUCCEEDED),
        Event.FAIL: Transition(frozenset({Status.QUEUED, Status.RUNNING}), Status.FAILED),
        Event.CANCEL: Transition(frozenset({Status.QUEUED, Status.RUNNING}), Status.CANCELED),
    }
)


def after(status: Status, event: Event) -> Status:
    """Return the status that follows `status` after `event`.

    Raises:
        TransitionRefused: the event is not legal in that status.
    """
    transition = TRANSITIONS[event]
    if status not in transition.sources:
        raise TransitionRefused(f"a job that is {status} cannot {event}")
    return transition.target
