"""What a look at a provider's task found."""

from dataclasses import dataclass
from enum import StrEnum


class Phase(StrEnum):
    WAITING = "waiting"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"


@dataclass(frozen=True, kw_only=True)
class Seen:
    """A task at one moment.

    `progress` is a fraction of 1, where it runs and says so; `url` where a finished one's film
    is; `failure` the provider's code and `reason` its words, for the operator's log; `cost_usd`
    what it has cost, where the provider says so.
    """

    phase: Phase
    progress: float | None = None
    url: str | None = None
    failure: str | None = None
    reason: str | None = None
    cost_usd: float | None = None
