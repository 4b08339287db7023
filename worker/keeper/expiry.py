"""Removing what may go: expired and deleted jobs' files, and leftovers of lost attempts."""

from datetime import timedelta
from typing import Final

import structlog
from sqlalchemy import RowMapping, text

from shared.crashpoints import crashpoint
from shared.db import Database
from shared.jobs.job import Job, Variant
from shared.jobs.storage_keys import input_key, output_prefix
from shared.jobs.transitions import SWEEP_GRACE
from shared.settings import Settings
from shared.storage import Storage

BATCH: Final = 50
KEYS_LIVE: Final = timedelta(hours=24)
"""How long an Idempotency-Key gives the same job."""

_log = structlog.get_logger(__name__)


class Sweeper:
    """Works off `sweep_at`: when a job's files are to be looked at next."""

    def __init__(self, db: Database, storage: Storage, settings: Settings) -> None:
        self._db = db
        self._storage = storage
        self._grace = settings.lease + SWEEP_GRACE

    def sweep(self) -> int:
        """Do what is due, up to `BATCH` jobs; return how many were swept.

        Storage first, then the row: a crash between the two only sweeps again.
        """
        with self._db.autocommit() as connection:
            rows = connection.execute(_DUE, {"limit": BATCH}).mappings().all()
        for row in rows:
            self._sweep_one(row)
        with self._db.autocommit() as connection:
            connection.execute(_FORGET_KEYS, {"age": KEYS_LIVE})
        return len(rows)

    def _sweep_one(self, row: RowMapping) -> None:
        job = Job.from_row(row)
        crashpoint("before_sweep")
        if job.deleted_at is not None or row["is_expired"]:
            self._storage.delete(input_key(job.id))
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

# A deleted job is swept once more after the longest upload that may still be in flight; a live
# one next when it expires.
_SWEPT: Final = text("""
UPDATE jobs SET
    expired_at = CASE WHEN deleted_at IS NULL AND expires_at <= clock_timestamp()
                      THEN clock_timestamp() ELSE expired_at END,
    sweep_at = CASE
        WHEN deleted_at IS NOT NULL THEN
            CASE WHEN deleted_at + :grace > clock_timestamp() THEN deleted_at + :grace END
        WHEN expires_at > clock_timestamp() THEN expires_at
    END
WHERE id = :id
""")

_FORGET_KEYS: Final = text(
    "UPDATE jobs SET idempotency_key = NULL"
    " WHERE idempotency_key IS NOT NULL AND created_at < clock_timestamp() - :age"
)
