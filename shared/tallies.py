"""Counts of ended jobs and tries, which keep growing when rows are purged, from bounded queries.

The keeper counts each end once, into a row for each engine and outcome. A scrape adds what has
ended since, which is some minutes' rows however old the installation is.
"""

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from sqlalchemy import Connection, text

from shared.db import Database

MARGIN: Final = timedelta(seconds=60)
"""Longer than any transaction lives (shared/db.py): all that ended before this is visible now."""

STEP: Final = timedelta(days=1)
"""Rows that are counted at a time, if no keeper ran for long."""

SHOWN: Final = 100_000
"""Waiting rows are counted up to this many."""


@dataclass(frozen=True)
class Ended:
    """How many jobs of an engine ended in this way, and the seconds that their renders took."""

    engine: str
    status: str
    count: int
    seconds: float


class Tallies:
    def __init__(self, db: Database) -> None:
        self._db = db

    def count(self) -> bool:
        """Count what ended; return whether there is more to count at once.

        Two keepers take turns, because the mark is locked while one counts.
        """
        with self._db.begin() as connection:
            _count_tries(connection)
        with self._db.begin() as connection:
            return _count_jobs(connection)

    def jobs(self) -> list[Ended]:
        """Return the jobs that ended since the installation began, deleted ones too."""
        with self._db.autocommit() as connection:
            return [Ended(*row) for row in connection.execute(_JOBS)]

    def tries(self) -> dict[str, int]:
        """Return how many tries of webhooks were `delivered` and `failed`."""
        with self._db.autocommit() as connection:
            return {row[0]: row[1] for row in connection.execute(_TRIES)}

    def deliveries(self) -> dict[str, int]:
        """Return how many deliveries are `pending` and `dead` now, each up to `SHOWN`."""
        with self._db.autocommit() as connection:
            row = connection.execute(_DELIVERIES, {"shown": SHOWN}).mappings().one()
            return dict(row)


def _count_tries(connection: Connection) -> None:
    mark = connection.execute(_LOCK_TRIES, {"margin": MARGIN}).mappings().first()
    if mark is None:
        return
    tries = {"after": mark["until_id"], "until": mark["seen_id"]}
    connection.execute(_COUNT_TRIES, tries)
    connection.execute(_MARK_TRIES, {"until": mark["seen_id"]})


def _count_jobs(connection: Connection) -> bool:
    connection.execute(_LOCK_JOBS)
    span = connection.execute(_SPAN, {"margin": MARGIN, "step": STEP}).mappings().one()
    connection.execute(_COUNT_JOBS, {"since": span["since"], "until": span["until"]})
    connection.execute(_MARK_JOBS, {"until": span["until"]})
    return bool(span["has_more"])


_LOCK_JOBS: Final = text("SELECT FROM tally_marks WHERE name = 'jobs' FOR UPDATE")

# Nothing to do if the last look was less than the margin ago, as another keeper's may be.
_LOCK_TRIES: Final = text("""
SELECT until_id, seen_id FROM tally_marks
WHERE name = 'tries' AND until_at < clock_timestamp() - :margin FOR UPDATE
""")

_SPAN: Final = text("""
SELECT until_at AS since, greatest(until_at, least(until_at + :step, now - :margin)) AS until,
       until_at + :step < now - :margin AS has_more
FROM tally_marks, (SELECT clock_timestamp() AS now) AS clock WHERE name = 'jobs'
""")

_COUNT_JOBS: Final = text("""
INSERT INTO tallies AS t (name, engine, outcome, count, seconds)
SELECT 'jobs', engine, status, count(*),
       coalesce(sum((metrics ->> 'render_seconds')::float8), 0)
FROM jobs WHERE finished_at >= :since AND finished_at < :until GROUP BY engine, status
ON CONFLICT (name, engine, outcome) DO UPDATE
SET count = t.count + excluded.count, seconds = t.seconds + excluded.seconds
""")

_MARK_JOBS: Final = text("UPDATE tally_marks SET until_at = :until WHERE name = 'jobs'")

# Ids are drawn in order but committed in any order: those up to the newest at the last look, a
# minute ago, are all visible now or will never be.
_COUNT_TRIES: Final = text("""
INSERT INTO tallies AS t (name, engine, outcome, count)
SELECT 'tries', '', CASE WHEN error IS NULL THEN 'delivered' ELSE 'failed' END, count(*)
FROM delivery_attempts WHERE id > :after AND id <= :until GROUP BY error IS NULL
ON CONFLICT (name, engine, outcome) DO UPDATE SET count = t.count + excluded.count
""")

_MARK_TRIES: Final = text("""
UPDATE tally_marks SET until_id = :until, until_at = clock_timestamp(),
    seen_id = greatest(:until, (SELECT coalesce(max(id), 0) FROM delivery_attempts))
WHERE name = 'tries'
""")

_JOBS: Final = text("""
SELECT engine, status, sum(count)::bigint, sum(seconds) FROM (
    SELECT engine, outcome AS status, count, seconds FROM tallies WHERE name = 'jobs'
    UNION ALL
    SELECT engine, status, 1, coalesce((metrics ->> 'render_seconds')::float8, 0) FROM jobs
    WHERE finished_at >= (SELECT until_at FROM tally_marks WHERE name = 'jobs')
) AS ended GROUP BY engine, status
""")

_TRIES: Final = text("""
SELECT outcome, sum(count)::bigint FROM (
    SELECT outcome, count FROM tallies WHERE name = 'tries'
    UNION ALL
    SELECT CASE WHEN error IS NULL THEN 'delivered' ELSE 'failed' END, 1 FROM delivery_attempts
    WHERE id > (SELECT until_id FROM tally_marks WHERE name = 'tries')
) AS made GROUP BY outcome
""")

_DELIVERIES: Final = text("""
SELECT (SELECT count(*) FROM (SELECT FROM deliveries WHERE status = 'pending' LIMIT :shown) AS p)
           AS pending,
       (SELECT count(*) FROM (SELECT FROM deliveries WHERE status = 'dead' LIMIT :shown) AS d)
           AS dead
""")
