"""Images without a job: stored before a submit that never committed."""

from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

import structlog
from sqlalchemy import text

from shared.db import Database
from shared.errors import StorageUnavailable
from shared.jobs.storage_keys import INPUTS, input_id, input_key
from shared.storage import Storage

GRACE: Final = timedelta(hours=1)
"""Far longer than a submit takes; the job of a younger image may still be committed."""

PAGE: Final = 500

_log = structlog.get_logger(__name__)


class OrphanSweeper:
    """Walks the stored images, one page a round, from the oldest to those within the grace period.

    Ids are uuid7, so the order of the keys is the order of time, and a key shows its age.
    """

    def __init__(
        self, db: Database, storage: Storage, *, grace: timedelta = GRACE, page: int = PAGE
    ) -> None:
        self._db = db
        self._storage = storage
        self._grace = grace
        self._page = page
        self._after = ""
        self._rest_until: datetime | None = None

    def sweep(self) -> int:
        """Check one page; return how many images were deleted.

        An image that cannot be deleted delays no other, and is found again on the next walk.

        Raises:
            StorageUnavailable: the store itself is away; the page is checked again.
        """
        now = self._now()
        if self._rest_until is not None and now < self._rest_until:
            return 0
        keys = self._storage.keys(INPUTS, after=self._after, limit=self._page)
        old = [key for key in keys if _age(key, now) > self._grace]
        swept = sum(self._swept(key) for key in self._orphans(old))
        is_last = len(keys) < self._page or len(old) < len(keys)
        self._after = "" if is_last else keys[-1]
        self._rest_until = now + self._grace if is_last else None
        return swept

    def _swept(self, key: str) -> bool:
        try:
            self._storage.delete(key)
        except StorageUnavailable as error:
            self._storage.check()
            _log.warning("orphan_refused", key=key, reason=error.message)
            return False
        _log.info("orphan_swept", key=key)
        return True

    def _now(self) -> datetime:
        with self._db.autocommit() as connection:
            now: datetime = connection.execute(text("SELECT clock_timestamp()")).scalar_one()
            return now

    def _orphans(self, keys: list[str]) -> list[str]:
        """Return the keys that are no job's input; keys of other forms are not ours, and stay."""
        ids = {key: job_id for key in keys if (job_id := input_id(key)) is not None}
        with self._db.autocommit() as connection:
            known = set(connection.execute(_KNOWN, {"keys": list(ids)}).scalars())
            # A gateway of the last release wrote no row for its image.
            jobs = set(connection.execute(_JOBS, {"ids": list(ids.values())}).scalars())
        return [
            key
            for key, job_id in ids.items()
            if key not in known and not (job_id in jobs and key == input_key(job_id))
        ]


_KNOWN: Final = text("SELECT key FROM inputs WHERE key = ANY(:keys)")
_JOBS: Final = text("SELECT id FROM jobs WHERE id = ANY(:ids)")


def _age(key: str, now: datetime) -> timedelta:
    job_id = input_id(key)
    return timedelta.max if job_id is None else now - _drawn_at(job_id)


def _drawn_at(job_id: UUID) -> datetime:
    """Return the time of a uuid7: its first 48 bits are milliseconds (RFC 9562)."""
    return datetime.fromtimestamp((job_id.int >> 80) / 1000, UTC)
