"""A table of jobs as it is after years: filled by SQL from one job, for benches and tests."""

from collections.abc import Callable
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Connection, event, text

from shared.db import Database

_FILL: Final = """
INSERT INTO jobs
SELECT made.* FROM jobs j CROSS JOIN generate_series(1, :count) AS n
CROSS JOIN LATERAL jsonb_populate_record(j, jsonb_build_object(
    'id', lpad(to_hex(:base + n), 12, '0') || '70008000' || lpad(to_hex(n), 12, '0'),
    'owner_id', CAST(:owner AS uuid),
    'created_at', clock_timestamp() - (:count - n) * interval '1 minute',
    'claim_at', clock_timestamp() + (n - :count) * interval '1 second',
    'idempotency_key', NULL) || {changes}) AS made
WHERE j.id = :template
"""

_ENDED: Final = """
jsonb_build_object(
    'status', CASE WHEN n % 100 = 0 THEN 'failed' ELSE 'succeeded' END,
    'attempt', 1, 'version', 9, 'lease_until', NULL, 'metrics', jsonb_build_object(),
    'started_at', clock_timestamp() - (:count - n) * interval '1 minute',
    'finished_at', clock_timestamp() - (:count - n) * interval '1 minute' + interval '20 s',
    'error_code', CASE WHEN n % 100 = 0 THEN 'render_failed' END,
    'metadata', j.metadata || jsonb_build_object('post', n::text),
    'result', CASE WHEN n % 100 > 0 THEN jsonb_build_object('ai_generated', false, 'artifacts',
        jsonb_build_object('video', jsonb_build_object('key', 'k', 'content_type', 'video/mp4',
            'bytes', 1, 'sha256', 'a', 'width', 512, 'height', 512, 'fps', 8,
            'num_frames', 16, 'duration_seconds', 2.0))) END)
"""

_QUEUED: Final = "jsonb_build_object('status', 'queued')"

FIRST_MS: Final = 1_600_000_000_000
"""Ids begin in 2020, so rows that are made now come after them."""


QUEUED_MS: Final = FIRST_MS + 10**11


def fill_ended(connection: Connection, template: UUID, owner: UUID, count: int) -> None:
    """Add jobs like the template that ended, one a minute until now; each hundredth failed."""
    _fill(connection, _ENDED, template, owner, count, FIRST_MS)


def fill_queued(connection: Connection, template: UUID, owner: UUID, count: int) -> None:
    """Add queued jobs like the template, ahead of it."""
    _fill(connection, _QUEUED, template, owner, count, QUEUED_MS + owner.int % 2**30 * 10**6)


def _fill(
    connection: Connection, changes: str, template: UUID, owner: UUID, count: int, base: int
) -> None:
    values = {"count": count, "owner": owner, "template": template, "base": base}
    connection.execute(text("SET LOCAL statement_timeout = 0"))
    connection.execute(text(_FILL.format(changes=changes)), values)


def pages(db: Database, work: Callable[[], Any]) -> dict[str, int]:
    """Return the pages that each statement of the work reads, run again under EXPLAIN."""
    return {
        statement: plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]
        for statement, plan in plans(db, work).items()
    }


def most_rows(plan: Any) -> int:
    """Return how many rows the step of a plan with the most rows has seen."""
    seen = plan["Actual Rows"] + plan.get("Rows Removed by Filter", 0)
    return max([round(seen * plan["Actual Loops"]), *map(most_rows, plan.get("Plans", ()))])


def plans(db: Database, work: Callable[[], Any]) -> dict[str, Any]:
    """Return the plan of each statement of the work, run again under EXPLAIN."""
    said: list[tuple[str, Any]] = []

    def note(_c: Any, _cursor: Any, statement: str, values: Any, *_: Any) -> None:
        said.append((statement, values))

    event.listen(db._engine, "before_cursor_execute", note)
    try:
        work()
    finally:
        event.remove(db._engine, "before_cursor_execute", note)
    found = {}
    with db.begin() as connection:
        for statement, values in said:
            explained = connection.exec_driver_sql(
                f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement}", values
            ).scalar_one()
            found[statement] = explained[0]["Plan"]
        connection.rollback()
    return found
