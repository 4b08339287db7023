"""What admins see of the whole installation: its workers, recent failures, and used storage."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from sqlalchemy import text

from shared.db import Database
from shared.engines.registry import WORKER_ALIVE_SECONDS

LOOKED_AT: Final = 50_000
"""The newest ended jobs that the sums of storage include: a second's work for Postgres."""


@dataclass(frozen=True, kw_only=True)
class WorkerState:
    """A worker by its last beat; `running` are the jobs that it holds now."""

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
    """A job that failed; `owner` is the name of its key, None for the admins' owner."""

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
    """The size of one owner's finished clips, as Postgres knows it; inputs are not counted."""

    owner: str | None
    jobs: int
    files: int
    bytes: int
    first_expires_at: datetime | None


@dataclass(frozen=True, kw_only=True)
class VariantStored:
    """The size of one kind of files."""

    variant: str
    files: int
    bytes: int


@dataclass(frozen=True, kw_only=True)
class StorageFound:
    """The size of the files of the newest LOOKED_AT jobs; `is_partial` if there are more jobs."""

    owners: Sequence[Stored]
    variants: Sequence[VariantStored]
    is_partial: bool


class AdminQueries:
    """Reads over all owners: only admins may see the results."""

    def __init__(self, db: Database, *, looked_at: int = LOOKED_AT) -> None:
        self._db = db
        self._looked_at = looked_at

    def workers(self) -> list[WorkerState]:
        """Return every known worker, the one with the newest beat first."""
        with self._db.autocommit() as connection:
            rows = connection.execute(_WORKERS, {"alive": WORKER_ALIVE_SECONDS})
            return [WorkerState(**row) for row in rows.mappings()]

    def failures(self, *, limit: int) -> list[Failure]:
        """Return the latest failed jobs, the newest first."""
        with self._db.autocommit() as connection:
            rows = connection.execute(_FAILURES, {"limit": limit})
            return [Failure(**row) for row in rows.mappings()]

    def storage(self) -> StorageFound:
        """Return the size of each owner's files, the largest first, and of each kind of files."""
        limit = {"limit": self._looked_at}
        with self._db.autocommit() as connection:
            owners = [Stored(**row) for row in connection.execute(_STORAGE, limit).mappings()]
            kinds = connection.execute(_VARIANTS, limit).mappings()
            variants = [VariantStored(**row) for row in kinds]
            is_partial = bool(connection.execute(_MORE, limit).scalar())
        return StorageFound(owners=owners, variants=variants, is_partial=is_partial)


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

# By the index on the ends of jobs, so that only the newest of years of rows are read.
_NEWEST: Final = """
    (SELECT id, owner_id, result, expires_at, status, expired_at, deleted_at
     FROM jobs WHERE finished_at IS NOT NULL ORDER BY finished_at DESC LIMIT :limit)
"""

_MORE: Final = text(
    "SELECT EXISTS (SELECT FROM jobs WHERE finished_at IS NOT NULL"
    " ORDER BY finished_at DESC OFFSET :limit LIMIT 1)"
)

_VARIANTS: Final = text(f"""
SELECT file.key AS variant, count(*) AS files,
       coalesce(sum((file.value ->> 'bytes')::bigint), 0)::bigint AS bytes
FROM {_NEWEST} AS j CROSS JOIN LATERAL jsonb_each(j.result -> 'artifacts') AS file
WHERE j.status = 'succeeded' AND j.expired_at IS NULL AND j.deleted_at IS NULL
GROUP BY file.key ORDER BY bytes DESC, file.key
""")  # noqa: S608 (only constants)

_STORAGE: Final = text(f"""
SELECT k.name AS owner, count(DISTINCT j.id) AS jobs, count(file.value) AS files,
       coalesce(sum((file.value ->> 'bytes')::bigint), 0)::bigint AS bytes,
       min(j.expires_at) AS first_expires_at
FROM {_NEWEST} AS j LEFT JOIN api_keys k ON k.id = j.owner_id
CROSS JOIN LATERAL jsonb_each(j.result -> 'artifacts') AS file
WHERE j.status = 'succeeded' AND j.expired_at IS NULL AND j.deleted_at IS NULL
GROUP BY j.owner_id, k.name
ORDER BY bytes DESC, j.owner_id
""")  # noqa: S608 (only constants)
