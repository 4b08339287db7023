"""The port to a server that renders: create, look, find, cancel, download."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Final, Protocol

from worker.engines.base import RenderRequest

OnBytes = Callable[[int, int | None], None]
"""Called with the bytes that have arrived, and the total if it is known; it may raise to stop."""


COST_USD: Final = "cost_usd"
"""The fact of a look with the task's cost, which is stored for the owner's budget."""


class TaskState(StrEnum):
    WAITING = "waiting"
    RENDERING = "rendering"
    DONE = "done"
    FAILED = "failed"
    CANCELED = "canceled"


@dataclass(frozen=True)
class Look:
    """The server's report about a task.

    `progress` is 0 to 1 if the server reports it. `link` is the address of the clip, if it differs
    from the one that `download` knows by itself. `error` is why it failed. `facts` are for the
    job's plan, such as `{"cost_usd": 0.25}`.
    """

    state: TaskState
    progress: float | None = None
    link: str | None = None
    error: Exception | None = None
    again_seconds: float | None = None
    """When the server asked to be polled again."""
    facts: Mapping[str, str | int | float | bool] = field(default_factory=dict)


@dataclass(frozen=True)
class Created:
    """The task that a create made."""

    task: str
    facts: Mapping[str, str | int | float | bool] = field(default_factory=dict)


@dataclass(frozen=True)
class Found:
    """The server's report about a task that may exist: its id, or that there is none.

    `is_known` is false if the server cannot tell.
    """

    task: str | None = None
    is_known: bool = False


class Provider(Protocol):
    """One server that renders. Each call except `download` ends within a minute, and logs no key.

    Every method raises `Away` if there was no answer, or one that says nothing about the task
    (timeouts, 429, 5xx), and `KeyRefused` if the key was refused.
    """

    name: str
    """For people and for checkpoints, such as `runway` or `10.0.0.7:8000`; never a key."""

    is_paid: bool
    """Whether a second create would cost money a second time."""

    def create(self, request: RenderRequest, key: str) -> Created:
        """Ask for the clip. `key` is the same for each repeat of one request: an Idempotency-Key.

        Raises:
            ContentRefused, RequestRefused: it made no task, and never will.
            Away: with `is_refusal` it made no task; else it may have.
        """

    def find(self, request: RenderRequest, key: str) -> Found:
        """Look for the task that a create with this key made, after its answer was lost."""

    def look(self, task: str) -> Look:
        """Return the state of the task.

        Raises:
            TaskVanished: the server knows no such task.
        """

    def cancel(self, task: str) -> bool | None:
        """End the task; return whether it may still cost money, None if it cannot be ended."""

    def download(self, task: str, look: Look, into: Path, on_bytes: OnBytes) -> None:
        """Write the clip to a file.

        Raises:
            ResultGone: the link has expired.
            ResultUnusable: the answer is not a video, or is too large.
            TaskVanished: the server knows no such task.
        """
