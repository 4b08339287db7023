"""Notices that the database's clock was set back, and repairs the times that lie ahead."""

import time
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

import structlog
from sqlalchemy import text

from shared.db import Database
from shared.jobs import clock
from shared.settings import Settings
from worker.keeper.webhook_sender import MAX_RETRY_AFTER

SET_BACK: Final = timedelta(seconds=30)
"""Less is harmless, and no more than a slow answer of the database looks like."""

_NOW: Final = text("SELECT clock_timestamp()")

_log = structlog.get_logger(__name__)


class ClockWatch:
    """Compares the database's clock with this process' monotonic one."""

    def __init__(
        self,
        db: Database,
        settings: Settings,
        *,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        self._db = db
        self._lease = settings.lease
        self._longest_delay = max(*settings.webhook_delays, MAX_RETRY_AFTER) * 2
        self._steady = steady
        self._last: tuple[float, datetime] | None = None
        self._leases_at: float | None = None

    def look(self) -> None:
        """Repair what is needed; the first look repairs too, because nobody looked before it.

        Raises:
            DatabaseUnavailable: try again.
        """
        steady, now = self._steady(), self._now()
        set_back = self._set_back(steady, now)
        if set_back > SET_BACK:
            _log.warning("clock_set_back", seconds=round(set_back.total_seconds()))
            # By then every living worker has renewed its leases, under the new clock.
            self._leases_at = steady + self._lease.total_seconds()
        if self._last is None or set_back > SET_BACK:
            self._note(clock.make_due(self._db, longest_delay=self._longest_delay))
        if self._leases_at is not None and steady >= self._leases_at:
            self._note(clock.end_leases(self._db, longest=self._lease * 3))
            self._leases_at = None
        self._last = steady, now

    def _now(self) -> datetime:
        with self._db.autocommit() as connection:
            now: datetime = connection.execute(_NOW).scalar_one()
        return now

    def _set_back(self, steady: float, now: datetime) -> timedelta:
        if self._last is None:
            return timedelta()
        last_steady, last_now = self._last
        return timedelta(seconds=steady - last_steady) - (now - last_now)

    def _note(self, rows: int) -> None:
        if rows:
            _log.warning("times_ahead_repaired", rows=rows)
