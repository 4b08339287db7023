"""The result of a poll of a provider's task."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from worker.engines.remote.provider import COST_USD, Look, TaskState


class Phase(StrEnum):
    WAITING = "waiting"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"


_STATES: Final = {
    Phase.WAITING: TaskState.WAITING,
    Phase.RUNNING: TaskState.RENDERING,
    Phase.SUCCEEDED: TaskState.DONE,
    Phase.FAILED: TaskState.FAILED,
    Phase.CANCELED: TaskState.CANCELED,
}


@dataclass(frozen=True, kw_only=True)
class Seen:
    """A task at one moment.

    `progress` is a fraction of 1, if it runs and reports one; `url` is the address of a finished
    clip; `failure` is the provider's code and `reason` its words, for the operator's log;
    `cost_usd` is its cost, if the provider reports it.
    """

    phase: Phase
    progress: float | None = None
    url: str | None = None
    failure: str | None = None
    reason: str | None = None
    cost_usd: float | None = None

    def look(self, error: Exception | None = None) -> Look:
        """Return it in the port's terms; `error` is why it failed."""
        return Look(
            _STATES[self.phase],
            progress=self.progress,
            link=self.url,
            error=error,
            facts={} if self.cost_usd is None else {COST_USD: self.cost_usd},
        )
