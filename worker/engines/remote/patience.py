"""How long to wait for a server that gives no answer, or does not know a task yet."""

import time
from dataclasses import dataclass
from typing import Final

import structlog

from shared.errors import PutOff
from worker.engines.remote.errors import Away, KeyRefused, TaskVanished
from worker.engines.remote.task import Task

NO_ANSWER: Final = "the server that renders this model does not answer now"
"""For clients: the address and the reason are for the operator, in the log."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Patience:
    """The waiting times, in seconds."""

    first_look: float = 0.5
    longest_look: float = 5.0
    elsewhere: float = 60.0
    """If one of the operator's own back ends is away for this long, another one is used."""
    hold: float = 120.0
    """After this time the job waits in the queue, and its place here is free for another."""
    again: int = 60
    """How long it waits there."""
    settling: float = 60.0
    """For this long after a create, a part of a provider's servers may not know the task yet."""


class Absence:
    """How long a server has given no answer, and what follows from it."""

    def __init__(self, patience: Patience, *, others: bool) -> None:
        self._patience = patience
        self._others = others
        self._since: float | None = None

    def note(self, error: Away | KeyRefused, place: str) -> float:
        """Return how long to wait before the next poll.

        Raises:
            TaskVanished: another server must be asked.
            PutOff: the job waits in the queue from now on.
        """
        now = time.monotonic()
        if self._since is None:
            self._since = now
            _log.warning("remote_away", place=place, reason=error.message)
        away = now - self._since
        if self._others and away > self._patience.elsewhere:
            raise TaskVanished(f"its back end gave no answer for {away:.0f} s")
        asked = error.retry_after_seconds or 0
        if away + asked > self._patience.hold or isinstance(error, KeyRefused):
            wait = max(asked, self._patience.again)
            raise PutOff(NO_ANSWER, retry_after_seconds=wait) from error
        return float(asked or self._patience.first_look)

    def end(self) -> None:
        if self._since is not None:
            _log.info("remote_back")
        self._since = None


class Settling:
    """Whether a report that there is no such task can be trusted: not soon after its create."""

    def __init__(self, patience: Patience, task: Task, *, is_paid: bool) -> None:
        """The operator's own servers know at once what they have made, and forget it for good."""
        settles_in = task.settles_in(patience.settling) if is_paid else 0.0
        self._until = time.monotonic() + settles_in
        self._is_told = False
        self._place = task.place

    def note(self, error: TaskVanished) -> None:
        """Return when to poll again; raise the error if the task has vanished."""
        if time.monotonic() >= self._until:
            raise error
        if not self._is_told:
            _log.warning("remote_not_known_yet", place=self._place, reason=error.message)
        self._is_told = True
