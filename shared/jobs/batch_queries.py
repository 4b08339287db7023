"""Reading batches: one, a page, and the files of their jobs; every query names the owner."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from sqlalchemy import text

from shared.db import Database
from shared.errors import InvalidRequest
from shared.errors.access import LinkExpired
from shared.jobs.batch import Batch, LiveCounts, no_such_batch
from shared.jobs.job import Job
from shared.jobs.links import EXPIRED, SignedLink
from shared.jobs.view import progress_percent
from shared.lifecycle import Stage
from shared.owners import BATCH_LINK_EPOCH
from shared.paging import Cut, Page

WRONG_CURSOR: Final = "after is not the id of one of your batches"


@dataclass(frozen=True)
class BatchPage(Page[Batch]):
    """Batches in the order asked for, and the state of their jobs that have not ended."""

    live: Mapping[UUID, LiveCounts]


class BatchQueries:
    def __init__(self, db: Database) -> None:
        self._db = db

    def get(self, batch_id: UUID, *, owner_id: UUID) -> Batch:
        """Return an owner's batch.

        Raises:
            NotFound: foreign and missing batches alike.
        """
        values = {"id": batch_id, "owner_id": owner_id}
        with self._db.autocommit() as connection:
            row = connection.execute(_BY_ID, values).mappings().first()
        if row is None:
            raise no_such_batch()
        return Batch.from_row(row)

    def behind(self, link: SignedLink) -> Batch:
        """Return the batch of a zip's link, whoever the caller is.

        Raises:
            NotFound: there is no such batch any longer.
            LinkExpired: its owner's links were ended after this link was made.
        """
        with self._db.autocommit() as connection:
            row = connection.execute(_BY_LINK, {"id": link.id}).mappings().first()
        if row is None:
            raise no_such_batch()
        batch = Batch.from_row(row)
        if batch.link_epoch != link.epoch:
            raise LinkExpired(EXPIRED)
        return batch

    def by_key(self, idempotency_key: str, *, owner_id: UUID) -> Batch | None:
        values = {"owner_id": owner_id, "key": idempotency_key}
        with self._db.autocommit() as connection:
            row = connection.execute(_BY_KEY, values).mappings().first()
        return None if row is None else Batch.from_row(row)

    def page(self, cut: Cut, *, owner_id: UUID) -> BatchPage:
        """Return up to `limit` batches that follow `after` in the order asked for.

        Raises:
            InvalidRequest: `after` is not a batch of this owner.
        """
        values: dict[str, Any] = {
            "owner_id": owner_id,
            "after": cut.after,
            "limit": cut.limit + 1,
        }
        with self._db.autocommit() as connection:
            if cut.after is not None:
                known = connection.execute(_BY_ID, {"id": cut.after, "owner_id": owner_id})
                if known.first() is None:
                    raise InvalidRequest(WRONG_CURSOR, param="after")
            statement = _NEWEST if cut.newest_first else _OLDEST
            rows = connection.execute(statement, values).mappings().all()
        page = Page.of([Batch.from_row(row) for row in rows], cut)
        return BatchPage(page.items, page.has_more, self.live(page.items))

    def live(self, batches: Sequence[Batch]) -> dict[UUID, LiveCounts]:
        """Return the state of the jobs that have not ended, for each batch that has some."""
        ids = [batch.id for batch in batches if batch.finished_at is None]
        counts: dict[UUID, LiveCounts] = {}
        if not ids:
            return counts
        with self._db.autocommit() as connection:
            rows = connection.execute(_LIVE, {"ids": ids}).mappings().all()
        for row in rows:
            so_far = counts.get(row["batch_id"], LiveCounts())
            is_running = row["status"] == "running"
            stage = None if row["stage"] is None else Stage(row["stage"])
            counts[row["batch_id"]] = LiveCounts(
                queued=so_far.queued + (not is_running),
                running=so_far.running + is_running,
                percents=so_far.percents
                + progress_percent(stage, row["step"], row["total_steps"]),
            )
        return counts

    def jobs(self, batch_id: UUID, *, owner_id: UUID) -> Iterator[tuple[int, Job]]:
        """Yield a batch's jobs by their positions, from 1 on; also deleted ones."""
        values = {"id": batch_id, "owner_id": owner_id}
        with self._db.autocommit() as connection:
            rows = connection.execute(_JOBS, values).mappings().all()
        for row in rows:
            yield row["batch_position"], Job.from_row(row)


_LINKED: Final = f"SELECT *, {BATCH_LINK_EPOCH} AS link_epoch FROM batches"  # noqa: S608 (constants)
_BY_ID: Final = text(f"{_LINKED} WHERE id = :id AND owner_id = :owner_id")
_BY_LINK: Final = text(f"{_LINKED} WHERE id = :id")
_BY_KEY: Final = text(f"{_LINKED} WHERE owner_id = :owner_id AND idempotency_key = :key")

_NEWEST, _OLDEST = (
    text(f"""
{_LINKED}
WHERE owner_id = :owner_id AND (CAST(:after AS uuid) IS NULL OR id {comes} CAST(:after AS uuid))
ORDER BY id {order} LIMIT :limit
""")
    for comes, order in (("<", "DESC"), (">", "ASC"))
)

_LIVE: Final = text("""
SELECT batch_id, status, stage, step, total_steps FROM jobs
WHERE batch_id = ANY(:ids) AND status IN ('queued', 'running')
""")

_JOBS: Final = text("""
SELECT * FROM jobs WHERE batch_id = :id AND owner_id = :owner_id ORDER BY batch_position
""")
