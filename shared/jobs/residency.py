"""Which model has a worker's card: its jobs come first, until a job of another has waited long."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

PATIENCE: Final = timedelta(seconds=60)
"""A swap costs the load of a model, tens of seconds, so a job waits this long before it causes
one."""


@dataclass(frozen=True)
class Residency:
    """The model on a worker's card, its time there, and the engines that would replace it.

    Engines that need no card are not in `others`, because nothing is unloaded for them.
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
        # Otherwise two full queues would swap with every job: each model stays for a while.
        "may_swap": residency.lasting >= PATIENCE,
    }


SWAP_RANK: Final = """
    CASE WHEN head.engine <> ALL (CAST(:others AS text[])) THEN 1
         WHEN CAST(:may_swap AS boolean) AND head.due_at <= clock_timestamp() - :patience THEN 0
         WHEN bool_or(head.engine = CAST(:resident AS text)) OVER () THEN 2
         ELSE 1 END
"""
"""For the first job of each engine: 0 has waited long enough, 2 is of the resident model."""
