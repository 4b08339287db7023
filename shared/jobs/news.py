"""Recent changes of owners' jobs, for clients that follow them.

A transaction commits after the time that it writes. So every read begins a `MARGIN` before the
last one: it finds what was not visible then, and finds some changes again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from sqlalchemy import TextClause, text

from shared.db import Database
from shared.jobs.job import Job

MARGIN: Final = timedelta(seconds=60)
"""Longer than any transaction lives (shared/db.py ends each within seconds)."""

NEWEST: Final = 50
"""The newest jobs of an owner that are looked at, to find those that were just made."""

LINKED: Final = (
    "SELECT *, coalesce((SELECT link_epoch FROM owners WHERE owners.id = :owner_id), 0)"
    " AS link_epoch FROM jobs"
)
"""Jobs of one owner, with the number that their links carry: read once for all of them."""

_FIRST: Final = UUID(int=0)


@dataclass(frozen=True)
class Sighting:
    """One job as a look found it."""

    job_id: UUID
    owner_id: UUID
    version: int
    is_running: bool


@dataclass(frozen=True)
class Look:
    """The result of one look, and the database's time before it began."""

    at: datetime
    sightings: Sequence[Sighting]

    @property
    def complete_until(self) -> datetime:
        """The time up to which no end and no delete can be missing from this look."""
        return self.at - MARGIN


@dataclass(frozen=True)
class Mark:
    """How far a read by time has come."""

    at: datetime
    job_id: UUID = _FIRST


class JobNews:
    """Reads for followers; each read uses an index, page by page."""

    def __init__(self, db: Database, *, newest: int = NEWEST) -> None:
        self._db = db
        self._newest = newest

    def complete_until(self) -> datetime:
        """Return a time before which every end is visible to reads from now on."""
        with self._db.autocommit() as connection:
            at: datetime = connection.execute(text("SELECT clock_timestamp()")).scalar_one()
        return at - MARGIN

    def look(self, since: Mapping[UUID, datetime]) -> Look:
        """Find each owner's jobs that run, and those made, ended or deleted since."""
        owners, times = list(since), list(since.values())
        values = {"owners": owners, "since": times, "newest": self._newest}
        with self._db.autocommit() as connection:
            at = connection.execute(text("SELECT clock_timestamp()")).scalar_one()
            rows = connection.execute(_LOOK, values)
            return Look(at, [Sighting(*row) for row in rows])

    def live(self, owner_id: UUID, status: str, *, after: UUID | None, limit: int) -> list[Job]:
        """Return a page of an owner's queued or running jobs, by id."""
        values = {"owner_id": owner_id, "status": status, "after": after or _FIRST, "limit": limit}
        return self._jobs(_LIVE, values)

    def ended(self, owner_id: UUID, after: Mark, *, limit: int) -> list[Job]:
        """Return a page of the jobs that ended after the mark and were not deleted."""
        return self._jobs(_ENDED, _page(owner_id, after, limit))

    def deleted(self, owner_id: UUID, after: Mark, *, limit: int) -> list[Job]:
        """Return a page of the jobs that were deleted after the mark."""
        return self._jobs(_DELETED, _page(owner_id, after, limit))

    def _jobs(self, statement: TextClause, values: Mapping[str, object]) -> list[Job]:
        with self._db.autocommit() as connection:
            rows = connection.execute(statement, values).mappings()
            return [Job.from_row(row) for row in rows]


def _page(owner_id: UUID, after: Mark, limit: int) -> dict[str, object]:
    return {"owner_id": owner_id, "at": after.at, "after": after.job_id, "limit": limit}


# One statement for all owners that are followed in a process, each since its own time.
_LOOK: Final = text("""
WITH followed AS (
    SELECT * FROM unnest(CAST(:owners AS uuid[]), CAST(:since AS timestamptz[])) AS f(owner, since)
)
SELECT DISTINCT id, owner_id, version, status = 'running' FROM (
    SELECT j.id, j.owner_id, j.version, j.status FROM followed
    JOIN jobs j ON j.owner_id = owner AND j.status = 'running' AND j.deleted_at IS NULL
    UNION ALL
    SELECT j.id, j.owner_id, j.version, j.status FROM followed
    JOIN jobs j ON j.owner_id = owner AND j.finished_at > since
    UNION ALL
    SELECT j.id, j.owner_id, j.version, j.status FROM followed
    JOIN jobs j ON j.owner_id = owner AND j.deleted_at > since
    UNION ALL
    SELECT n.* FROM followed CROSS JOIN LATERAL (
        SELECT id, owner_id, version, status FROM jobs
        WHERE owner_id = owner ORDER BY id DESC LIMIT :newest) AS n
) AS found
""")

_LIVE: Final = text(
    f"{LINKED} WHERE owner_id = :owner_id"
    " AND status = :status AND deleted_at IS NULL"
    " AND id > :after ORDER BY id LIMIT :limit"
)

_ENDED: Final = text(
    f"{LINKED} WHERE owner_id = :owner_id"
    " AND finished_at >= :at"
    " AND (finished_at, id) > (:at, :after) AND deleted_at IS NULL"
    " ORDER BY finished_at, id LIMIT :limit"
)

_DELETED: Final = text(
    f"{LINKED} WHERE owner_id = :owner_id"
    " AND deleted_at >= :at"
    " AND (deleted_at, id) > (:at, :after)"
    " ORDER BY deleted_at, id LIMIT :limit"
)
