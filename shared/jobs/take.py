"""Taking the next job out of the queue, within what its owner may have running."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from sqlalchemy import Connection

from shared.jobs import sql
from shared.jobs.job import Job


class OneTooMany(Exception):
    """Another claim of the same owner came first; the next claim sees it."""


def take_next(connection: Connection, values: Mapping[str, Any]) -> Job | None:
    """Return the best queued job, which runs now; None if there is none.

    Raises:
        OneTooMany: undo the transaction, and try again.
    """
    is_somebody_full = connection.execute(sql.IS_SOMEBODY_FULL, values).scalar_one()
    statement = sql.CLAIM_BESIDE_FULL if is_somebody_full else sql.CLAIM
    row = connection.execute(statement, values).mappings().first()
    if row is None:
        return None
    job = Job.from_row(row)
    if row["cap"] is not None:
        _check_cap(connection, job.owner_id, row["cap"])
    return job


def _check_cap(connection: Connection, owner_id: UUID, cap: int) -> None:
    """Undo a claim that, together with a concurrent one, would exceed the owner's cap.

    Neither claim saw the other's job run. Because they wait for each other here, the second one
    does.
    """
    connection.execute(sql.LINE_UP, {"line": sql.CLAIMS, "owner_id": owner_id})
    if connection.execute(sql.RUNNING, {"owner_id": owner_id}).scalar_one() > cap:
        raise OneTooMany
