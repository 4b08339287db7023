"""Topping up the bells: lost ones are rung again, but never one for every waiting job."""

from typing import Final

from sqlalchemy import text

from shared.bell import Bell
from shared.crashpoints import crashpoint
from shared.db import Database
from shared.engines.registry import EngineRegistry
from shared.jobs.queries import JobQueries

BELLS_PER_WORKER: Final = 2
_RINGER_LOCK: Final = 7_860_002  # Two keepers must not both top up.


class Ringer:
    def __init__(
        self,
        db: Database,
        queries: JobQueries,
        registry: EngineRegistry,
        bell: Bell,
        *,
        max_running: int | None = None,
    ) -> None:
        self._db = db
        self._queries = queries
        self._registry = registry
        self._bell = bell
        self._max_running = max_running

    def top_up(self) -> int:
        """Ring until each engine has min(due jobs, 2 x live workers) bells; return how many."""
        # Jobs whose owner has enough running ring for nobody: no worker could take them.
        due = self._queries.due(max_running=self._max_running)
        if not due:
            return 0
        workers = {offer.spec.name: offer.workers for offer in self._registry.offers()}
        with self._db.begin() as connection:
            if not connection.execute(_TRY_LOCK, {"lock": _RINGER_LOCK}).scalar():
                return 0
            return sum(
                self._ring(engine, min(count, BELLS_PER_WORKER * workers.get(engine, 0)))
                for engine, count in due.items()
            )

    def _ring(self, engine: str, wanted: int) -> int:
        waiting = self._bell.waiting(engine)
        if waiting is None:
            return 0
        missing = max(0, wanted - waiting)
        crashpoint("before_ring")
        for _ in range(missing):
            self._bell.ring(engine)
        crashpoint("rung")
        return missing


_TRY_LOCK: Final = text("SELECT pg_try_advisory_xact_lock(:lock)")
