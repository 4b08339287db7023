"""A job's place in the queue, and whose jobs may start: fairness and caps as parts of SQL.

A place is a turn. Each owner's jobs of one priority stand `SHARE` apart, and a newcomer's first
job takes the turn that is being served now, whatever the clock says: it stands behind the jobs
that wait there already, and before every later turn of whoever came with a thousand. Priority
moves a job by `BONUS` from its turn.
"""

from collections.abc import Mapping
from datetime import timedelta
from typing import Final

from shared.jobs.job import Priority
from shared.jobs.pauses import NOT_PAUSED

BONUS: Final[Mapping[Priority, timedelta]] = {
    Priority.LOW: -timedelta(minutes=10),
    Priority.NORMAL: timedelta(0),
    Priority.HIGH: timedelta(minutes=10),
}
SHARE: Final = timedelta(minutes=2)

_BONUSES: Final = " ".join(
    f"WHEN '{priority}' THEN interval '{bonus.total_seconds():.0f} s'"
    for priority, bonus in BONUS.items()
)
_TURN: Final = f"claim_at + CASE priority {_BONUSES} END"

FULL_OWNERS: Final = """
    SELECT owner_id FROM jobs r WHERE status = 'running' GROUP BY owner_id
    HAVING count(*) >= coalesce(
        (SELECT max_running FROM api_keys WHERE id = r.owner_id),
        CAST(:max_running AS integer))
"""
"""Whoever has as many jobs running as the key's own cap or the setting's lets them have."""

_FULL: Final = f"ARRAY({FULL_OWNERS})"
IS_SOMEBODY_FULL: Final = f"SELECT cardinality({_FULL}) > 0"

# One short look for each owner who waits, along the one index that is in this order.
_WAITING_OWNERS: Final = """
    WITH RECURSIVE waiting(owner) AS (
        (SELECT owner_id FROM jobs WHERE status = 'queued' ORDER BY owner_id, claim_at LIMIT 1)
        UNION ALL
        SELECT (SELECT owner_id FROM jobs WHERE status = 'queued' AND owner_id > owner
                ORDER BY owner_id, claim_at LIMIT 1) FROM waiting WHERE owner IS NOT NULL)
    SELECT owner FROM waiting WHERE owner IS NOT NULL
"""

AT_ONCE: Final = 16
"""Of each owner so many jobs are looked at: other claims may be taking the first ones."""


def first_of_anybody(engine: str, may_start: str, *, locked: str = "") -> str:
    """Return a query of the first job of an engine that may start, whoever owns it.

    Args:
        engine: its name, as SQL.
        may_start: what else a job must fulfil.
        locked: "" or the clause that takes the row for this transaction.
    """
    return f"""
        SELECT * FROM jobs WHERE status = 'queued' AND jobs.engine = {engine} AND {may_start}
        ORDER BY claim_at LIMIT 1 {locked}
    """


def first_of_others(engine: str, may_start: str, *, locked: str = "", where: str = "true") -> str:
    """Return the same for the owners who are not full, who are looked at one by one.

    Along the queue itself it would pass all that waits of those who are.

    Args:
        where: a condition of no row, without which nobody is looked at.
    """
    return f"""
        SELECT taken.* FROM (
            SELECT its.id, its.claim_at FROM ({_WAITING_OWNERS}) AS each
            CROSS JOIN LATERAL (
                SELECT id, claim_at FROM jobs WHERE status = 'queued' AND owner_id = owner
                    AND jobs.engine = {engine} AND {may_start}
                ORDER BY claim_at LIMIT {AT_ONCE}) AS its
            WHERE {where} AND array_position({_FULL}, owner) IS NULL
            ORDER BY its.claim_at) AS next
        CROSS JOIN LATERAL (
            SELECT * FROM jobs WHERE id = next.id AND status = 'queued' {locked}) AS taken
        LIMIT 1
    """


CAP: Final = """
    coalesce((SELECT max_running FROM api_keys k WHERE k.id = owner_id),
             CAST(:max_running AS integer))
"""
"""How many jobs the owner of a row may have running, NULL without a limit."""

_DUE: Final = "due_at <= clock_timestamp()"
_IF_NONE: Final = first_of_anybody("rival.name", f"cardinality({_FULL}) = 0 AND {_DUE}")
_IF_SOME: Final = first_of_others("rival.name", _DUE, where=f"cardinality({_FULL}) > 0")
_FIRST_DUE: Final = f"SELECT * FROM ({_IF_NONE}) AS a UNION ALL SELECT * FROM ({_IF_SOME}) AS b"

# The turn of the engine's running jobs, unless the first job that could start is behind: of this
# engine, or of one that shares a worker with it. Jobs that cannot start hold no turn back.
_SERVED: Final = f"""
    coalesce(
        least(
            (SELECT max({_TURN}) FROM jobs WHERE status = 'running' AND engine = :engine),
            (SELECT min(head.turn) FROM (
                SELECT CAST(:engine AS text) AS name UNION
                SELECT unnest(engines) FROM workers WHERE :engine = ANY(engines)
             ) AS rival CROSS JOIN LATERAL (
                SELECT {_TURN} AS turn FROM ({_FIRST_DUE}) AS due WHERE {NOT_PAUSED}) AS head)),
        clock_timestamp())
"""

# An owner whose last job took this turn, ended or not, gets the next one: two owners who send
# one job after the other would otherwise keep every third from its turn.
PLACE: Final = f"""
    SELECT greatest(
        served.turn,
        (SELECT max({_TURN}) + :share FROM jobs
         WHERE owner_id = :owner_id AND status = 'queued' AND priority = :priority),
        (SELECT served.turn + :share FROM (
            SELECT {_TURN} AS turn FROM jobs WHERE owner_id = :owner_id
            ORDER BY id DESC LIMIT 1) AS last
         WHERE last.turn >= served.turn)) - :bonus AS claim_at
    FROM (SELECT {_SERVED} AS turn) AS served
"""
