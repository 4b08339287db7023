"""A job's place in the queue, and which owners' jobs may start: fairness and caps as parts of SQL.

`claim_at` is a virtual time (start-time fair queuing). Jobs of one owner and priority are `SHARE`
apart. The first job of a new owner gets the virtual time that is being served, whatever the clock
says: it comes after the jobs that wait at that time already, and before every later job of an
owner with a thousand. Priority moves a job by `BONUS` from its time.
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
"""Owners with as many running jobs as their key's own cap or the setting allows."""

_FULL: Final = f"ARRAY({FULL_OWNERS})"
IS_SOMEBODY_FULL: Final = f"SELECT cardinality({_FULL}) > 0"

# One short look for each waiting owner, along the one index that has this order.
_WAITING_OWNERS: Final = """
    WITH RECURSIVE waiting(owner) AS (
        (SELECT owner_id FROM jobs WHERE status = 'queued' ORDER BY owner_id, claim_at LIMIT 1)
        UNION ALL
        SELECT (SELECT owner_id FROM jobs WHERE status = 'queued' AND owner_id > owner
                ORDER BY owner_id, claim_at LIMIT 1) FROM waiting WHERE owner IS NOT NULL)
    SELECT owner FROM waiting WHERE owner IS NOT NULL
"""

AT_ONCE: Final = 16
"""Jobs of each owner that are looked at, because other claims may be taking the first ones."""


def first_of_anybody(engine: str, may_start: str, *, locked: str = "") -> str:
    """Return a query of the first job of an engine that may start, whoever owns it.

    Args:
        engine: its name, as SQL.
        may_start: further conditions for a job.
        locked: "" or the clause that takes the row for this transaction.
    """
    return f"""
        SELECT * FROM jobs WHERE status = 'queued' AND jobs.engine = {engine} AND {may_start}
        ORDER BY claim_at LIMIT 1 {locked}
    """


def first_of_others(engine: str, may_start: str, *, locked: str = "", where: str = "true") -> str:
    """Return the same for owners below the cap, which are looked at one by one.

    Along the queue itself a claim would pass all waiting jobs of the owners at the cap.

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
"""How many jobs the owner of a row may have running; NULL means no limit."""

_DUE: Final = "due_at <= clock_timestamp()"
_IF_NONE: Final = first_of_anybody("rival.name", f"cardinality({_FULL}) = 0 AND {_DUE}")
_IF_SOME: Final = first_of_others("rival.name", _DUE, where=f"cardinality({_FULL}) > 0")
_FIRST_DUE: Final = f"SELECT * FROM ({_IF_NONE}) AS a UNION ALL SELECT * FROM ({_IF_SOME}) AS b"

# The virtual time of the engine's running jobs, unless the first job that could start is earlier:
# of this engine, or of one that shares a worker with it. Jobs that cannot start do not hold the
# time back.
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

# An owner whose last job had this time, ended or not, gets the next one. Otherwise two owners who
# send one job after the other would keep every third owner waiting.
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
