"""Breaks one safeguard in every process that has this folder on its PYTHONPATH.

Python imports a module of this name at each start, so that Celery's children are met as well.
STILLREEL_TEST_SABOTAGE names what is broken, or which limits are short enough for a test.
"""

import os
from collections.abc import Callable
from pathlib import Path
from types import MappingProxyType
from typing import Final

SABOTAGE: Final = "STILLREEL_TEST_SABOTAGE"


def lift_the_fence() -> None:
    """Let any attempt write to a running job."""
    from sqlalchemy import text

    from shared.jobs import sql

    for name in ("BEAT", "HAND_BACK", "RETRY", "COMPLETE", "FAIL"):
        statement = str(getattr(sql, name))
        assert "attempt = :attempt" in statement
        lifted = statement.replace("attempt = :attempt", "CAST(:attempt AS int) IS NOT NULL")
        setattr(sql, name, text(lifted))


def stop_the_reaper() -> None:
    from shared.jobs.job import Job
    from shared.jobs.transitions import Jobs

    def reap(self: Jobs, *, max_attempts: int) -> list[Job]:
        return []

    Jobs.reap = reap  # type: ignore[method-assign]  # What this file is for.


def forget_the_bells() -> None:
    from worker.keeper.bells import Ringer

    def top_up(self: Ringer) -> int:
        return 0

    Ringer.top_up = top_up  # type: ignore[method-assign]  # What this file is for.


def shorten_patience() -> None:
    """Take two seconds without progress for a hang, instead of minutes, until there was one.

    The next attempt's child has the usual patience: two seconds may be too few for a busy machine.
    """
    if any(Path(os.environ["STILLREEL_TEST_MARKS"]).glob("hang-*")):
        return
    from worker.render import lease
    from worker.supervisor import supervisor

    short = dict.fromkeys(lease.STALL_SECONDS, 2.0)
    lease.STALL_SECONDS = MappingProxyType(short)  # type: ignore[misc]
    supervisor.HUNG_MARGIN_SECONDS = 1.0  # type: ignore[misc]


BROKEN: Final[dict[str, Callable[[], None]]] = {
    "fence": lift_the_fence,
    "reaper": stop_the_reaper,
    "bells": forget_the_bells,
    "patience": shorten_patience,
}

if os.environ.get(SABOTAGE):
    BROKEN[os.environ[SABOTAGE]]()
