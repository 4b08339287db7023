"""The port to a place that renders: create, look, find, cancel, download."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Final, Protocol

from worker.engines.base import RenderRequest

OnBytes = Callable[[int, int | None], None]
"""Told how many bytes have come, of how many if that is known; may raise to stop."""


COST_USD: Final = "cost_usd"
"""The fact of a look that says what the task has cost: kept for the owner's budget."""


class TaskState(StrEnum):
    WAITING = "waiting"
    RENDERING = "rendering"
    DONE = "done"
    FAILED = "failed"
    CANCELED = "canceled"


@dataclass(frozen=True)
class Look:
    """What a place says of a task.

    `progress` is 0 to 1 where it tells one. `link` is where the clip is, where that is another
    address than `download` knows by itself. `error` is why it failed. `facts` are for the job's
    plan, such as `{"cost_usd": 0.25}`.
    """

    state: TaskState
    progress: float | None = None
    link: str | None = None
    error: Exception | None = None
    again_seconds: float | None = None
    """When it asked to be looked at again."""
    facts: Mapping[str, str | int | float | bool] = field(default_factory=dict)


@dataclass(frozen=True)
class Created:
    """The task that a create made."""

    task: str
    facts: Mapping[str, str | int | float | bool] = field(default_factory=dict)


@dataclass(frozen=True)
class Found:
    """What a place says of a task that may have been made: its id, or that it has none such.

    `is_known` is false where the place cannot tell.
    """

    task: str | None = None
    is_known: bool = False


class Provider(Protocol):
    """One place that renders. Each call ends within a minute, but for `download`, and logs no key.

    Every method raises `Away` where there was no answer, or one that says nothing of the task
    (timeouts, 429, 5xx), and `KeyRefused` where the key was not taken.
    """

    name: str
    """For people and for checkpoints, such as `runway` or `10.0.0.7:8000`; never a key."""

    is_paid: bool
    """Whether a second create would be paid for a second time."""

    def create(self, request: RenderRequest, key: str) -> Created:
        """Ask for the clip. `key` is the same for each repeat of one ask: an Idempotency-Key.

        Raises:
            ContentRefused, RequestRefused: it took no task, and never will.
            Away: with `is_refusal` it took none; else it may have.
        """

    def find(self, request: RenderRequest, key: str) -> Found:
        """Look for what a create of this key made, after its answer was lost."""

    def look(self, task: str) -> Look:
        """Say how the task is.

        Raises:
            TaskVanished: it knows no such task.
        """

    def cancel(self, task: str) -> bool | None:
        """End the task; return whether it may still cost, None where it cannot be ended."""

    def download(self, task: str, look: Look, into: Path, on_bytes: OnBytes) -> None:
        """Write the clip to a file.

        Raises:
            ResultGone: the link has expired.
            ResultUnusable: what comes is no video, or too much.
            TaskVanished: it knows no such task.
        """
