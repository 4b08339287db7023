"""Which model holds a worker's card: its jobs come first, until one of another has waited long."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

PATIENCE: Final = timedelta(seconds=60)
"""A swap costs the load of a model, tens of seconds: a job waits so long for another's place."""


@dataclass(frozen=True)
class Residency:
    """The model on a worker's card, how long it is there, and those that would take its place.

    Engines that need no card are none of `others`: nothing is unloaded for them.
    """

    engine: str
    lasting: timedelta
    others: Sequence[str]


def claim_values(residency: Residency | None) -> Mapping[str, Any]:
    """Return the values of SWAP_RANK; without a model on the card every engine ranks the same."""
    if residency is None:
        return {"resident": None, "others": [], "patience": PATIENCE, "may_swap": False}
    return {
        "resident": residency.engine,
        "others": list(residency.others),
        "patience": PATIENCE,
        # Else two crowded queues would swap with every job: each model stays a while.
        "may_swap": residency.lasting >= PATIENCE,
    }


SWAP_RANK: Final = """
    CASE WHEN head.engine <> ALL (CAST(:others AS text[])) THEN 1
         WHEN CAST(:may_swap AS boolean) AND head.due_at <= clock_timestamp() - :patience THEN 0
         WHEN bool_or(head.engine = CAST(:resident AS text)) OVER () THEN 2
         ELSE 1 END
"""
"""Of the first job of each engine: 0 has waited long enough, 2 waits for the resident model."""
