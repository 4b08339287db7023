"""The state of a job's remote render, as it is stored between attempts."""

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import Any, Final, Self

from worker.engines.base import Checkpoint

NAME: Final = "remote"
"""The name of the checkpoint."""


class Reached(StrEnum):
    """How far a task has come, for the next attempt."""

    INTENDED = "intended"  # A create may have been sent, but its answer was not stored.
    REFUSED = "refused"  # The create was answered, and made no task.
    MADE = "made"
    DONE = "done"


@dataclass(frozen=True)
class Task:
    """The server that was asked, the key of the request, and its answer.

    `asked` counts the creates of this job. `id` is the server's own, None before it is known;
    `made_at` is when it became known, by the clock of the worker.
    """

    place: str
    key: str
    asked: int
    reached: Reached = Reached.INTENDED
    id: str | None = None
    made_at: float | None = None

    @classmethod
    def read(cls, checkpoint: Checkpoint) -> Self | None:
        kept = checkpoint.read(NAME)
        return None if kept is None else cls.of(kept)

    @classmethod
    def of(cls, kept: Mapping[str, Any]) -> Self:
        return cls(
            place=str(kept["place"]),
            key=str(kept["key"]),
            asked=int(kept["asked"]),
            reached=Reached(kept["reached"]),
            id=None if kept["id"] is None else str(kept["id"]),
            made_at=kept.get("made_at"),  # An earlier release stores no time.
        )

    def keep(self, checkpoint: Checkpoint) -> Self:
        checkpoint.write(NAME, asdict(self), is_open=self.reached is Reached.MADE)
        return self

    def refused(self) -> Self:
        return replace(self, reached=Reached.REFUSED)

    def made(self, task_id: str) -> Self:
        return replace(self, reached=Reached.MADE, id=task_id, made_at=time.time())

    def settles_in(self, seconds: float) -> float:
        """Return what is left of the first seconds of its life; 0 if its age is not known.

        The clocks of machines differ, so an age of minus some seconds counts like the same age in
        plus.
        """
        if self.made_at is None:
            return 0.0
        age = abs(time.time() - self.made_at)
        return max(0.0, seconds - age)

    def done(self) -> Self:
        return replace(self, reached=Reached.DONE)
