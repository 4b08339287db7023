"""Removes expired and deleted jobs' files, and leftovers of lost attempts."""

import time
from datetime import timedelta
from typing import Final

import structlog
from sqlalchemy import RowMapping, text

from shared.crashpoints import crashpoint
from shared.db import Database
from shared.errors import DatabaseUnavailable, StorageUnavailable
from shared.jobs.job import Job, Variant, public_id
from shared.jobs.queries import JobQueries
from shared.jobs.storage_keys import output_prefix
from shared.jobs.transitions import SWEEP_GRACE
from shared.settings import Settings
from shared.storage import Storage

BATCH: Final = 50
ROUND_SECONDS: Final = 30.0
"""A round ends after this time, because each object that hangs takes seconds, and the keeper ends
a silent loop."""

FIRST_BACKOFF: Final = timedelta(minutes=1)
MOST_BACKOFF: Final = timedelta(hours=6)

_log = structlog.get_logger(__name__)


class Sweeper:
    """Works through `sweep_at`: the time of the next look at a job's files."""

    def __init__(self, db: Database, storage: Storage, settings: Settings) -> None:
        self._db = db
        self._queries = JobQueries(db)
        self._storage = storage
        self._grace = settings.lease + SWEEP_GRACE

    def sweep(self) -> int:
        """Sweep up to `BATCH` due jobs; return how many were swept.

        First the storage, then the row: a crash between the two only causes another sweep. A job
        whose files cannot be deleted is tried again later and delays no other.

        Raises:
            StorageUnavailable: the store itself is away; no job was delayed by this.
        """
        ends_at = time.monotonic() + ROUND_SECONDS
        with self._db.autocommit() as connection:
            rows = connection.execute(_DUE, {"limit": BATCH}).mappings().all()
        swept = 0
        for row in rows:
            if time.monotonic() > ends_at:
                break
            swept += self._swept(row)
        return swept

    def _swept(self, row: RowMapping) -> bool:
        try:
            self._sweep_one(row)
        except DatabaseUnavailable:
            raise
        except StorageUnavailable as error:
            self._storage.check()
            _log.warning("sweep_refused", job=public_id(row["id"]), reason=error.message)
        except Exception:  # The edge of one job: its row may be unreadable.
            _log.exception("sweep_failed", job=public_id(row["id"]))
        else:
            return True
        values = {
            "id": row["id"],
            "sweep_at": row["sweep_at"],
            "first": FIRST_BACKOFF,
            "most": MOST_BACKOFF,
        }
        with self._db.autocommit() as connection:
            connection.execute(_PUT_OFF, values)
        return False

    def _sweep_one(self, row: RowMapping) -> None:
        job = Job.from_row(row)
        crashpoint("before_sweep")
        if job.deleted_at is not None or row["is_expired"]:
            try:
                for each in self._queries.inputs(job):
                    self._storage.delete(each.key)
            finally:  # A reason that keeps an input need not keep the clip.
                self._storage.delete_prefix(output_prefix(job.id))
        else:
            self._storage.delete_prefix(output_prefix(job.id), keep=_kept(job))
        crashpoint("swept_storage")
        with self._db.autocommit() as connection:
            connection.execute(_SWEPT, {"id": job.id, "grace": self._grace})
        crashpoint("swept")
        _log.info("swept", job=job.public_id, deleted=job.deleted_at is not None)


def _kept(job: Job) -> frozenset[str]:
    if job.result is None:
        return frozenset()
    artifacts = job.result.artifacts
    return frozenset(a.key for variant, a in artifacts.items() if variant is not Variant.INPUT)


_DUE: Final = text(
    "SELECT *, coalesce(expires_at <= clock_timestamp(), false) AS is_expired FROM jobs"
    " WHERE sweep_at <= clock_timestamp() ORDER BY sweep_at LIMIT :limit"
)

# A deleted job is swept once more after the longest upload that may still be under way, and a live
# one when it expires. `expired_at` is the time when the files were gone for good.
_SWEPT: Final = text("""
UPDATE jobs SET
    expired_at = CASE
        WHEN deleted_at IS NOT NULL AND deleted_at + :grace <= clock_timestamp()
            THEN coalesce(expired_at, clock_timestamp())
        WHEN deleted_at IS NULL AND expires_at <= clock_timestamp() THEN clock_timestamp()
        ELSE expired_at END,
    sweep_at = CASE
        WHEN deleted_at IS NOT NULL THEN
            CASE WHEN deleted_at + :grace > clock_timestamp() THEN deleted_at + :grace END
        WHEN expires_at > clock_timestamp() THEN expires_at
    END
WHERE id = :id
""")

# Half of the time so far, so each wait is half as long again as the one before. If a client
# deleted the job in the meantime, it is due at once.
_PUT_OFF: Final = text("""
UPDATE jobs SET sweep_at = clock_timestamp() + least(:most, greatest(:first,
    (clock_timestamp() - coalesce(deleted_at,
        CASE WHEN expires_at <= clock_timestamp() THEN expires_at END, finished_at)) / 2))
WHERE id = :id AND sweep_at = :sweep_at
""")
