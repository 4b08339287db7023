"""The end of rows: Idempotency-Keys are forgotten, texts are blanked, old jobs are deleted."""

from datetime import timedelta
from typing import Final

import structlog
from sqlalchemy import text

from shared.db import Database
from shared.settings import Settings

KEYS_LIVE: Final = timedelta(hours=24)
"""How long an Idempotency-Key gives the same job."""

BATCH: Final = 200
"""Rows of one statement: each ends far within the database's deadline and delays nothing."""

_log = structlog.get_logger(__name__)


class Purger:
    """Every statement is safe beside other keepers, and handles at most `batch` rows."""

    def __init__(self, db: Database, settings: Settings, *, batch: int = BATCH) -> None:
        self._db = db
        self._batch = batch
        # The waits of a schedule vary by a fifth, and the settings may not ask for a shorter time.
        schedule = sum(settings.webhook_delays, timedelta(0)) * 1.2
        self._age = max(settings.purge, schedule, KEYS_LIVE)

    def forget_keys(self) -> int:
        """Let Idempotency-Keys be used again once they are a day old; return how many."""
        values = {"age": KEYS_LIVE, "batch": self._batch}
        with self._db.autocommit() as connection:
            of_batches = connection.execute(_FORGET_BATCH_KEYS, values).rowcount
            return connection.execute(_FORGET_KEYS, values).rowcount + of_batches

    def blank(self) -> int:
        """Remove a client's texts from deleted jobs whose webhooks have ended; return how many.

        Until then a webhook's body is made from these texts.
        """
        with self._db.begin() as connection:
            ids = list(connection.execute(_BLANK, {"batch": self._batch}).scalars())
            if not ids:
                return 0
            connection.execute(_BLANK_TRIES, {"ids": ids})
            connection.execute(_BLANK_DELIVERIES, {"ids": ids})
            connection.execute(_BLANK_BATCHES, {"ids": ids})
        _log.info("jobs_blanked", jobs=len(ids))
        return len(ids)

    def purge(self) -> int:
        """Delete jobs whose files were removed long ago, and their deliveries; return how many."""
        with self._db.begin() as connection:
            old = list(connection.execute(_OLD, self._limits).scalars())
            if not old:
                return 0
            pending = set(connection.execute(_LOCK_DELIVERIES, {"ids": old}).scalars())
            ids = [job_id for job_id in old if job_id not in pending]
            connection.execute(_DELETE_DELIVERIES, {"ids": ids})
            connection.execute(_DELETE_JOBS, {"ids": ids})
        _log.info("jobs_purged", jobs=len(ids))
        return len(ids)

    def purge_batches(self) -> int:
        """Delete batches of that age which have no job any longer, with their deliveries."""
        with self._db.autocommit() as connection:
            return connection.execute(_DELETE_BATCHES, self._limits).rowcount

    def purge_tests(self) -> int:
        """Delete test deliveries of that age, which belong to no job; return how many."""
        with self._db.autocommit() as connection:
            return connection.execute(_DELETE_TESTS, self._limits).rowcount

    @property
    def _limits(self) -> dict[str, object]:
        return {"age": self._age, "batch": self._batch}


_FORGET_KEYS: Final = text("""
UPDATE jobs SET idempotency_key = NULL WHERE id IN (
    SELECT id FROM jobs
    WHERE idempotency_key IS NOT NULL AND created_at < clock_timestamp() - :age
    LIMIT :batch FOR UPDATE SKIP LOCKED)
""")

_FORGET_BATCH_KEYS: Final = text("""
UPDATE batches SET idempotency_key = NULL WHERE id IN (
    SELECT id FROM batches
    WHERE idempotency_key IS NOT NULL AND created_at < clock_timestamp() - :age
    LIMIT :batch FOR UPDATE SKIP LOCKED)
""")

# Warnings quote the request. A prompt is never NULL.
_BLANK: Final = text("""
UPDATE jobs SET
    blanked_at = clock_timestamp(),
    parameters = parameters || '{"prompt": "", "negative_prompt": ""}',
    metadata = '{}', warnings = '[]', metrics = metrics - 'warnings',
    webhook_url = NULL, webhook_event_types = NULL,
    webhook_headers = NULL,
    request_id = NULL, idempotency_fingerprint = NULL
WHERE id IN (
    SELECT j.id FROM jobs j
    WHERE j.deleted_at IS NOT NULL AND j.blanked_at IS NULL
      AND NOT EXISTS (
          SELECT FROM deliveries d WHERE d.status = 'pending'
              AND (d.job_id = j.id OR d.batch_id = j.batch_id))
    ORDER BY j.deleted_at LIMIT :batch FOR UPDATE SKIP LOCKED)
RETURNING id
""")

# A receiver's answer may repeat the body, and an error may name a one-off URL's host.
_BLANK_TRIES: Final = text("""
UPDATE delivery_attempts a SET excerpt = NULL, error = CASE
    WHEN a.error IS NOT NULL AND e.url IS NULL THEN 'failed; the job was deleted since'
    ELSE a.error END
FROM deliveries d JOIN webhook_endpoints e ON e.id = d.endpoint_id
WHERE a.delivery_id = d.id AND d.job_id = ANY(:ids)
""")

# An endpoint's own URL belongs to its owner, and is in the endpoint too.
_BLANK_DELIVERIES: Final = text("""
UPDATE deliveries d SET url = ''
FROM webhook_endpoints e
WHERE e.id = d.endpoint_id AND e.url IS NULL AND d.job_id = ANY(:ids)
""")

# A batch has texts of its own, but no client can delete it: they are blanked with the last of its
# jobs.
_BLANK_BATCHES: Final = text("""
UPDATE batches b SET metadata = '{}', webhook_url = NULL, webhook_headers = NULL,
    idempotency_fingerprint = NULL
WHERE b.id IN (SELECT batch_id FROM jobs WHERE id = ANY(:ids)) AND b.finished_at IS NOT NULL
  AND NOT EXISTS (SELECT FROM jobs j WHERE j.batch_id = b.id AND j.blanked_at IS NULL)
  AND NOT EXISTS (SELECT FROM deliveries d WHERE d.batch_id = b.id AND d.status = 'pending')
""")

_OLD: Final = text("""
SELECT j.id FROM jobs j
WHERE j.sweep_at IS NULL AND j.expired_at < clock_timestamp() - :age
  AND j.finished_at < clock_timestamp() - :age
  AND coalesce(j.deleted_at < clock_timestamp() - :age, true)
  AND NOT EXISTS (SELECT FROM deliveries d WHERE d.job_id = j.id AND d.status = 'pending')
ORDER BY j.expired_at LIMIT :batch FOR UPDATE SKIP LOCKED
""")

# Once they are locked no replay can begin; deliveries whose replay began just before stay.
_LOCK_DELIVERIES: Final = text("""
WITH held AS (SELECT job_id, status FROM deliveries WHERE job_id = ANY(:ids) FOR UPDATE)
SELECT DISTINCT job_id FROM held WHERE status = 'pending'
""")

_DELETE_DELIVERIES: Final = text("DELETE FROM deliveries WHERE job_id = ANY(:ids)")
_DELETE_JOBS: Final = text("DELETE FROM jobs WHERE id = ANY(:ids)")

_DELETE_BATCHES: Final = text("""
DELETE FROM batches WHERE id IN (
    SELECT b.id FROM batches b
    WHERE b.finished_at < clock_timestamp() - :age
      AND NOT EXISTS (SELECT FROM jobs j WHERE j.batch_id = b.id)
      AND NOT EXISTS (SELECT FROM deliveries d WHERE d.batch_id = b.id AND d.status = 'pending')
    ORDER BY b.finished_at LIMIT :batch FOR UPDATE SKIP LOCKED)
""")

_DELETE_TESTS: Final = text("""
DELETE FROM deliveries WHERE id IN (
    SELECT id FROM deliveries
    WHERE job_id IS NULL AND batch_id IS NULL AND status <> 'pending'
      AND created_at < clock_timestamp() - :age
    ORDER BY created_at LIMIT :batch FOR UPDATE SKIP LOCKED)
""")
