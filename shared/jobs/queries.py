"""Reading jobs: one, a page, the queue; single statements in autocommit."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Select, func, literal_column, select, text

from shared.db import Database
from shared.engines.registry import WORKER_ALIVE_SECONDS
from shared.errors.access import LinkExpired
from shared.jobs import sql
from shared.jobs.inputs import Input
from shared.jobs.job import Job, no_such_job
from shared.jobs.links import EXPIRED, SignedLink
from shared.jobs.listing import SEARCHED, Filter, JobPage, read_page
from shared.owners import LINK_EPOCH
from shared.paging import Cut
from shared.tables.jobs import jobs

RENDER_SAMPLE: Final = 20
"""The number of recent renders that the estimate of the next one uses."""
LOOKED_AT: Final = 500
"""The newest ended jobs that are searched: if none of them succeeded, there is no estimate."""


@dataclass(frozen=True)
class QueueState:
    """One engine's queue: lengths, the longest wait and the time of a render, in seconds."""

    engine: str
    queued: int
    running: int
    oldest_seconds: float | None
    workers: int
    render_seconds: float | None

    @property
    def wait_seconds(self) -> float | None:
        """The expected wait of a job submitted now, or None if nothing is known yet."""
        if self.render_seconds is None or self.workers == 0:
            return None
        ahead = max(0, self.queued + self.running - self.workers + 1)
        return ahead * self.render_seconds / self.workers


class JobQueries:
    """All reads of jobs; it never writes."""

    def __init__(self, db: Database, *, searched: int = SEARCHED) -> None:
        """`searched` is how many of an owner's newest jobs a search reads."""
        self._db = db
        self._searched = searched

    def get(self, job_id: UUID, *, owner_id: UUID) -> Job:
        """Return an owner's job.

        Raises:
            NotFound: foreign, deleted and missing jobs alike.
        """
        return self._one(
            _LINKED.where(
                jobs.c.id == job_id, jobs.c.owner_id == owner_id, jobs.c.deleted_at.is_(None)
            )
        )

    def behind(self, link: SignedLink) -> Job:
        """Return the job of a link, whoever the caller is.

        Raises:
            NotFound: the job was deleted.
            LinkExpired: its owner's links were ended after this link was made.
        """
        job = self._one(_LINKED.where(jobs.c.id == link.id, jobs.c.deleted_at.is_(None)))
        if job.link_epoch != link.epoch:
            raise LinkExpired(EXPIRED)
        return job

    def _one(self, statement: Select[Any]) -> Job:
        with self._db.autocommit() as connection:
            row = connection.execute(statement).mappings().first()
        if row is None:
            raise no_such_job()
        return Job.from_row(row)

    def many(self, job_ids: Sequence[UUID]) -> dict[UUID, Job]:
        """Return these jobs as they are, of any owner, also deleted ones."""
        with self._db.autocommit() as connection:
            rows = connection.execute(_LINKED.where(jobs.c.id == func.any(list(job_ids))))
            return {row["id"]: Job.from_row(row) for row in rows.mappings()}

    def inputs(self, job: Job) -> tuple[Input, ...]:
        """Return the inputs of a job, including its image."""
        with self._db.autocommit() as connection:
            rows = connection.execute(sql.INPUTS_OF, {"id": job.id}).scalar()
        return job.inputs_in(rows or ())

    def sealed_headers(self, job: Job) -> str | None:
        """Return the headers of a job's own webhook in their stored form."""
        statement = select(jobs.c.webhook_headers).where(jobs.c.id == job.id)
        with self._db.autocommit() as connection:
            sealed: str | None = connection.execute(statement).scalar()
        return sealed

    def by_key(self, idempotency_key: str, *, owner_id: UUID) -> Job | None:
        statement = _LINKED.where(
            jobs.c.owner_id == owner_id, jobs.c.idempotency_key == idempotency_key
        )
        with self._db.autocommit() as connection:
            row = connection.execute(statement).mappings().first()
        return None if row is None else Job.from_row(row)

    def page(self, *, owner_id: UUID, narrow: Filter, cut: Cut) -> JobPage:
        """Return up to `limit` jobs that follow `after` in the order asked for.

        Raises:
            InvalidRequest: `after` is not a job of this owner.
        """
        with self._db.autocommit() as connection:
            return read_page(connection, owner_id, narrow, cut, searched=self._searched)

    def queue(self, engine: str) -> QueueState:
        """Return the state of one engine's queue."""
        with self._db.autocommit() as connection:
            row = connection.execute(
                _QUEUE,
                {
                    "engine": engine,
                    "alive": WORKER_ALIVE_SECONDS,
                    "sample": RENDER_SAMPLE,
                    "looked_at": LOOKED_AT,
                },
            ).mappings()
            return QueueState(engine=engine, **row.one())

    def live_counts(self) -> list[tuple[str, str, int]]:
        """Return (status, engine, jobs) of the jobs that wait or run, for the metrics."""
        with self._db.autocommit() as connection:
            return [(row[0], row[1], row[2]) for row in connection.execute(_LIVE)]


_LINKED: Final = select(jobs, literal_column(LINK_EPOCH).label("link_epoch"))
"""A job with the number that its links carry: one look at a table with a row for few owners."""


_QUEUE: Final = text("""
SELECT
    (SELECT count(*) FROM jobs WHERE status = 'queued' AND engine = :engine) AS queued,
    (SELECT count(*) FROM jobs WHERE status = 'running' AND engine = :engine) AS running,
    (SELECT extract(epoch FROM clock_timestamp() - min(created_at))::float8 FROM jobs
     WHERE status = 'queued' AND engine = :engine) AS oldest_seconds,
    (SELECT count(*) FROM workers WHERE :engine = ANY(engines) AND state NOT IN ('stopped', 'lost')
     AND beat_at > clock_timestamp() - make_interval(secs => :alive)) AS workers,
    (SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY seconds) FROM (
        SELECT extract(epoch FROM finished_at - started_at)::float8 AS seconds FROM (
            SELECT finished_at, started_at, status FROM jobs
            WHERE finished_at IS NOT NULL AND (engine, finished_at) > (:engine, '-infinity')
                AND (engine, finished_at) < (:engine, 'infinity')
            ORDER BY engine DESC, finished_at DESC LIMIT :looked_at) AS newest
        WHERE status = 'succeeded'
        ORDER BY finished_at DESC LIMIT :sample) AS recent) AS render_seconds
""")

# Two statements in one, so that each uses its own small index.
_LIVE: Final = text("""
SELECT status, engine, count(*) FROM jobs WHERE status = 'queued' GROUP BY status, engine
UNION ALL
SELECT status, engine, count(*) FROM jobs WHERE status = 'running' GROUP BY status, engine
""")
