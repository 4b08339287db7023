"""What an admin asks of the whole house: its workers, what failed lately, what files take."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from sqlalchemy import text

from shared.db import Database
from shared.engines.registry import WORKER_ALIVE_SECONDS


@dataclass(frozen=True, kw_only=True)
class WorkerState:
    """A worker as it showed itself last; `running` are the jobs it holds now."""

    name: str
    host: str
    device: str
    device_name: str | None
    vram_bytes: int | None
    engines: Sequence[str]
    resident_engine: str | None
    state: str
    is_alive: bool
    model_loads: int
    started_at: datetime
    beat_at: datetime
    running: Sequence[UUID]


@dataclass(frozen=True, kw_only=True)
class Failure:
    """A job that failed; `owner` is the name of its key, None where that is the house."""

    job_id: UUID
    owner: str | None
    engine: str
    error_code: str
    error_message: str | None
    attempt: int
    worker: str | None
    finished_at: datetime


@dataclass(frozen=True, kw_only=True)
class Stored:
    """What one owner's finished clips take, as Postgres knows it; inputs are not counted."""

    owner: str | None
    jobs: int
    files: int
    bytes: int
    first_expires_at: datetime | None


class AdminQueries:
    """Reads over all owners: what it returns is for admins alone."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def workers(self) -> list[WorkerState]:
        """Return every worker known, the one heard of last first."""
        with self._db.autocommit() as connection:
            rows = connection.execute(_WORKERS, {"alive": WORKER_ALIVE_SECONDS})
            return [WorkerState(**row) for row in rows.mappings()]

    def failures(self, *, limit: int) -> list[Failure]:
        """Return the jobs that failed last, the newest first."""
        with self._db.autocommit() as connection:
            rows = connection.execute(_FAILURES, {"limit": limit})
            return [Failure(**row) for row in rows.mappings()]

    def storage(self) -> list[Stored]:
        """Return what each owner's files take, the most first."""
        with self._db.autocommit() as connection:
            return [Stored(**row) for row in connection.execute(_STORAGE).mappings()]


_WORKERS: Final = text("""
SELECT w.name, w.host, w.device, w.device_name, w.vram_bytes, w.engines, w.resident_engine,
       w.state, w.model_loads, w.started_at, w.beat_at,
       w.state NOT IN ('stopped', 'lost')
           AND w.beat_at > clock_timestamp() - make_interval(secs => :alive) AS is_alive,
       coalesce(array_agg(j.id ORDER BY j.id) FILTER (WHERE j.id IS NOT NULL), '{}') AS running
FROM workers w LEFT JOIN jobs j ON j.status = 'running' AND j.worker = w.name
GROUP BY w.name
ORDER BY w.beat_at DESC, w.name
""")

_FAILURES: Final = text("""
SELECT j.id AS job_id, k.name AS owner, j.engine, j.error_code, j.error_message, j.attempt,
       j.worker, j.finished_at
FROM jobs j LEFT JOIN api_keys k ON k.id = j.owner_id
WHERE j.status = 'failed' AND j.deleted_at IS NULL
ORDER BY j.finished_at DESC LIMIT :limit
""")

_STORAGE: Final = text("""
SELECT k.name AS owner, count(DISTINCT j.id) AS jobs, count(file.value) AS files,
       coalesce(sum((file.value ->> 'bytes')::bigint), 0)::bigint AS bytes,
       min(j.expires_at) AS first_expires_at
FROM jobs j LEFT JOIN api_keys k ON k.id = j.owner_id
CROSS JOIN LATERAL jsonb_each(j.result -> 'artifacts') AS file
WHERE j.status = 'succeeded' AND j.expired_at IS NULL AND j.deleted_at IS NULL
GROUP BY j.owner_id, k.name
ORDER BY bytes DESC, j.owner_id
""")
