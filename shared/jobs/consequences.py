"""The rows that a transition writes beside its jobs: webhooks, a batch's counts, a day's usage.

All of them commit with the transition. Locks are taken in one order (jobs, then batches by id,
then days), so that no two transitions wait for each other.
"""

from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from typing import Final
from uuid import UUID

from sqlalchemy import Connection, TextClause, text

from shared.jobs.job import Job
from shared.jobs.usage import ADD_ENDED
from shared.lifecycle import TERMINAL, Status
from shared.webhooks import enqueue
from shared.webhooks.events import events_of


def write_consequences(
    connection: Connection, jobs: Sequence[Job], *, first_try: timedelta
) -> None:
    """Write what must follow from the new states of these jobs; once for each change."""
    for status in {job.status for job in jobs}:
        ids = [job.id for job in jobs if job.status is status]
        _add_deliveries(connection, ids, status, first_try)
    ended = [job for job in jobs if job.status in TERMINAL]
    if ended:
        _count_in_batches(connection, ended, first_try)
        connection.execute(ADD_ENDED, {"ids": [job.id for job in ended]})


def _add_deliveries(
    connection: Connection, ids: Sequence[UUID], status: Status, first_try: timedelta
) -> None:
    """Write deliveries for the receivers; a repeat meets the unique key."""
    events = events_of(status)
    if events:
        values = {"job_ids": list(ids), "events": events, "first_try": first_try}
        connection.execute(enqueue.DELIVERIES, values)


def _count_in_batches(connection: Connection, ended: Sequence[Job], first_try: timedelta) -> None:
    """Raise the counts of the batches; the transition that reaches the total writes the end."""
    counts = Counter((job.batch_id, job.status) for job in ended if job.batch_id is not None)
    for batch_id in sorted({batch_id for batch_id, _ in counts}):
        values = {str(status): counts[batch_id, status] for status in TERMINAL}
        is_finished = connection.execute(COUNT, {"id": batch_id, **values}).scalar()
        if is_finished:
            told = {"batch_id": batch_id, "first_try": first_try}
            connection.execute(enqueue.BATCH_DELIVERIES, told)


# Under the row's lock, so that of two last jobs the second sees the count of the first.
COUNT: Final[TextClause] = text("""
UPDATE batches SET
    succeeded = succeeded + :succeeded, failed = failed + :failed, canceled = canceled + :canceled,
    finished_at = CASE
        WHEN succeeded + failed + canceled + :succeeded + :failed + :canceled = total
        THEN clock_timestamp() END
WHERE id = :id RETURNING finished_at IS NOT NULL
""")
