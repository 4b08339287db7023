"""Breaks one safeguard in every process that has this folder on its PYTHONPATH.

Python imports a module of this name at each start, so Celery's children get it as well.
STILLREEL_TEST_SABOTAGE names the safeguard to break, or the limits to shorten for a test.
"""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
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


def close_the_eyes() -> None:
    """Make a worker depend on its bells: it never looks at the table by itself."""
    from worker.render import render_loop as loop

    loop.LOOK_SECONDS = (3600.0, 3600.0)  # type: ignore[misc]


def shorten_patience() -> None:
    """Treat two seconds without progress as a hang, instead of minutes, until the first hang.

    The next attempt's child has the usual patience, because two seconds may be too few on a busy
    machine.
    """
    if any(Path(os.environ["STILLREEL_TEST_MARKS"]).glob("hang-*")):
        return
    from worker.render import lease
    from worker.supervisor import supervisor

    short = {
        stage: replace(rule, first_seconds=2.0, seconds=2.0)
        for stage, rule in lease.STAGES.items()
    }
    defaults = lease.Leases.__init__.__kwdefaults__
    assert defaults is not None
    defaults["stages"] = short
    supervisor.HUNG_MARGIN_SECONDS = 1.0  # type: ignore[misc]


BROKEN: Final[dict[str, Callable[[], None]]] = {
    "fence": lift_the_fence,
    "reaper": stop_the_reaper,
    "looks": close_the_eyes,
    "patience": shorten_patience,
}

if os.environ.get(SABOTAGE):
    BROKEN[os.environ[SABOTAGE]]()
