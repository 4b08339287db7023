"""Notes of an engine about a job, so that its next attempt continues instead of starting again."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from sqlalchemy import text

from shared.db import Database
from shared.errors import LeaseLost
from shared.jobs.transitions import Claim

MOST_BYTES: Final = 16 * 1024
"""A checkpoint says where something is; the thing itself is in the storage, or on another
server."""


@dataclass(frozen=True)
class OpenCheckpoint:
    """A note of something that runs on another server, for a job that has ended here."""

    job_id: UUID
    engine: str
    value: Mapping[str, Any]


class Checkpoints:
    """The rows of the table `checkpoints`; they are deleted with their job."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def read(self, job_id: UUID, name: str) -> Mapping[str, Any] | None:
        """Return the note of the newest attempt that wrote one, None if none did."""
        with self._db.autocommit() as connection:
            found = connection.execute(_READ, {"job_id": job_id, "name": name}).scalar()
        return found if isinstance(found, dict) else None

    def write(
        self, claim: Claim, name: str, value: Mapping[str, Any], *, is_open: bool = False
    ) -> None:
        """Write a note in one statement, which matches only while the claim is valid.

        The progress is stored, so the job's failures are counted from zero.

        Args:
            is_open: something runs on another server that a cancel of the job must end.

        Raises:
            LeaseLost: another attempt has the job, or it has ended.
            ValueError: it is more than `MOST_BYTES` of JSON.
        """
        body = json.dumps(dict(value))
        if len(body.encode()) > MOST_BYTES:
            raise ValueError(
                f"a checkpoint holds {MOST_BYTES} bytes of JSON; store what is larger"
            )
        values = {"id": claim.job_id, "attempt": claim.attempt, "name": name, "value": body}
        with self._db.autocommit() as connection:
            written = connection.execute(_WRITE, values | {"is_open": is_open}).first()
        if written is None:
            raise LeaseLost(f"attempt {claim.attempt} no longer owns the job")

    def ended(self, name: str, engines: list[str]) -> list[OpenCheckpoint]:
        """Return what still runs on other servers for jobs that were canceled, or failed."""
        with self._db.autocommit() as connection:
            rows = connection.execute(_ENDED, {"name": name, "engines": engines}).all()
        return [OpenCheckpoint(*row) for row in rows]

    def close(self, job_id: UUID, name: str, metrics: Mapping[str, Any]) -> None:
        """Note an ended job's metrics, and that it runs on no other server any longer."""
        values = {"job_id": job_id, "name": name, "metrics": json.dumps(dict(metrics))}
        with self._db.autocommit() as connection:
            connection.execute(_CLOSE, values)


_READ: Final = text("SELECT value FROM checkpoints WHERE job_id = :job_id AND name = :name")

# The update takes the row's lock and reads again after it, so it sees who has taken the job.
_WRITE: Final = text("""
WITH held AS (
    UPDATE jobs SET failures = 0, version = version + 1
    WHERE id = :id AND attempt = :attempt AND status = 'running'
    RETURNING id, attempt)
INSERT INTO checkpoints (job_id, name, attempt, value, is_open)
SELECT id, :name, attempt, CAST(:value AS jsonb), :is_open FROM held
ON CONFLICT (job_id, name) DO UPDATE SET attempt = excluded.attempt, value = excluded.value,
    is_open = excluded.is_open, written_at = clock_timestamp()
RETURNING job_id
""")

_ENDED: Final = text("""
SELECT c.job_id, j.engine, c.value FROM checkpoints c JOIN jobs j ON j.id = c.job_id
WHERE c.is_open AND c.name = :name AND j.status IN ('canceled', 'failed')
  AND j.engine = ANY(:engines)
ORDER BY c.written_at LIMIT 20
""")

_CLOSE: Final = text("""
WITH closed AS (
    UPDATE checkpoints SET is_open = false
    WHERE job_id = :job_id AND name = :name AND is_open RETURNING job_id)
UPDATE jobs SET metrics = metrics || CAST(:metrics AS jsonb), version = version + 1
WHERE id IN (SELECT job_id FROM closed) AND status IN ('canceled', 'failed')
""")
