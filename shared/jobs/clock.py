"""Times that lie ahead because the database's clock was set back, and their repair.

Every time is compared with the database's clock. If that was fast and is set right by hours, a row
that was due at once would wait for those hours.
"""

from datetime import timedelta
from typing import Final

from sqlalchemy import text

from shared.db import Database

LONGEST_WAIT: Final = timedelta(hours=1)
"""More than any wait of a queued job: the longest backoff is minutes."""

LONGEST_SEND: Final = timedelta(hours=1)
"""More than any send of a webhook takes."""

_JOBS: Final = text(
    "UPDATE jobs SET due_at = clock_timestamp() WHERE status = 'queued'"
    " AND (due_at > clock_timestamp() + :longest OR"
    " (created_at > clock_timestamp() AND due_at > clock_timestamp()))"
)

_DELIVERIES: Final = text(
    "UPDATE deliveries SET next_at = clock_timestamp(),"
    " lease_until = CASE WHEN lease_until < clock_timestamp() + :send THEN lease_until END"
    " WHERE status = 'pending' AND next_at > clock_timestamp()"
    " AND (next_at > clock_timestamp() + :longest OR created_at > clock_timestamp())"
)

_LEASES: Final = text(
    "UPDATE jobs SET lease_until = clock_timestamp() WHERE status = 'running'"
    " AND lease_until > clock_timestamp() + :longest"
)


def make_due(db: Database, *, longest_delay: timedelta) -> int:
    """Make due what a clock that was set back would leave waiting; return how many rows.

    Args:
        longest_delay: the longest wait between two tries of a webhook.

    Raises:
        DatabaseUnavailable: as `Database.begin`.
    """
    values = {"longest": longest_delay, "send": LONGEST_SEND}
    with db.begin() as connection:
        due = connection.execute(_JOBS, {"longest": LONGEST_WAIT}).rowcount
        return due + connection.execute(_DELIVERIES, values).rowcount


def end_leases(db: Database, *, longest: timedelta) -> int:
    """End leases that lie further ahead than `longest`; return how many.

    Call it only when every living worker has renewed its leases since the clock was set back.

    Raises:
        DatabaseUnavailable: as `Database.begin`.
    """
    with db.begin() as connection:
        return connection.execute(_LEASES, {"longest": longest}).rowcount
