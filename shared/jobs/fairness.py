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

# Postgres takes `<> ALL` to leave nothing where one owner has all that waits, and then walks the
# whole queue in place of the index that has its order.
NOT_FULL: Final = f"array_position(ARRAY({FULL_OWNERS}), owner_id) IS NULL"

CAP: Final = """
    coalesce((SELECT max_running FROM api_keys k WHERE k.id = owner_id),
             CAST(:max_running AS integer))
"""
"""How many jobs the owner of a row may have running, NULL without a limit."""

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
                SELECT {_TURN} AS turn FROM jobs
                WHERE status = 'queued' AND engine = rival.name AND due_at <= clock_timestamp()
                    AND {NOT_FULL} AND {NOT_PAUSED}
                ORDER BY claim_at LIMIT 1) AS head)),
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
