"""What each owner asked for and received, by UTC day and engine, and the daily limit of a key.

A submit reserves its clip's seconds on its day, and an end without a clip gives them back. So a
day's limit holds however many submits come at once, and `reserved_ms` is exact: whole
milliseconds, computed from the job's own row both times.

The price of paid providers is reserved in the same way, in millionths of a dollar. An end gives
back all except what was spent: by the provider's own figure, else the price if a task was bought
or may have been. So canceling a bought clip does not give its money back.
"""

from dataclasses import dataclass
from datetime import date, datetime
from typing import Final
from uuid import UUID

from sqlalchemy import text

from shared.db import Database

CLIP_MS: Final = """
    ceil((parameters ->> 'num_frames')::numeric * 1000
         / (parameters ->> 'fps')::numeric)::bigint
"""

TODAY: Final = "(clock_timestamp() AT TIME ZONE 'UTC')::date"


@dataclass(frozen=True, kw_only=True)
class DayUsage:
    """One engine's day; `video_seconds` is of finished clips, `render_seconds` of rendering them.

    Both count on the day of the end, and so does `cost_usd`, which paid providers charged;
    `reserved_seconds` and `reserved_usd` count on the day of the submit.
    """

    day: date
    engine: str
    succeeded: int
    failed: int
    canceled: int
    video_seconds: float
    render_seconds: float
    reserved_seconds: float
    cost_usd: float
    reserved_usd: float


@dataclass(frozen=True, kw_only=True)
class Today:
    """How much of today's limits is used, and when the next day begins."""

    reserved_seconds: float
    reserved_micros: int
    renews_at: datetime
    renews_in_seconds: int


class Usage:
    """Reads the sums; the transitions write them."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def days(
        self, *, owner_id: UUID, since: date, until: date, engine: str | None = None
    ) -> list[DayUsage]:
        """Return an owner's days from `since` to `until`, both included, the newest first."""
        values = {"owner_id": owner_id, "since": since, "until": until, "engine": engine}
        with self._db.autocommit() as connection:
            return [DayUsage(**row) for row in connection.execute(_DAYS, values).mappings()]

    def paid_today(self) -> dict[str, float]:
        """Return what paid providers charged today for ended jobs, in dollars by engine."""
        with self._db.autocommit() as connection:
            return {row.engine: row.usd for row in connection.execute(_PAID_TODAY)}

    def today(self, owner_id: UUID) -> Today:
        with self._db.autocommit() as connection:
            row = connection.execute(USED_TODAY, {"owner_id": owner_id}).mappings().one()
        return Today(**row)


# A part of SUBMIT: `made` is the new row, or none.
RESERVE: Final = f"""
INSERT INTO usage_days AS u (owner_id, day, engine, reserved_ms, reserved_micros)
SELECT owner_id, (created_at AT TIME ZONE 'UTC')::date, engine, {CLIP_MS},
       coalesce(price_micros, 0) FROM made
ON CONFLICT (owner_id, day, engine)
    DO UPDATE SET reserved_ms = u.reserved_ms + excluded.reserved_ms,
                  reserved_micros = u.reserved_micros + excluded.reserved_micros
"""  # noqa: S608 (only constants)

HAS_SECONDS_LEFT: Final = f"""
    (CAST(:daily_seconds AS bigint) IS NULL OR CAST(:clip_ms AS bigint) + (
        SELECT coalesce(sum(reserved_ms), 0) FROM usage_days
        WHERE owner_id = :owner_id AND day = {TODAY}) <= CAST(:daily_seconds AS bigint) * 1000)
"""  # noqa: S608 (only constants)

MOST_MICROS: Final = """
    coalesce((SELECT round(daily_usd * 1000000)::bigint FROM api_keys WHERE id = :owner_id),
             CAST(:paid_micros AS bigint))
"""
"""What an owner may spend in a day: its key's own limit, else the settings'; NULL means any
amount."""

HAS_MONEY_LEFT: Final = f"""
    (coalesce(CAST(:price_micros AS bigint), 0) = 0 OR coalesce(CAST(:price_micros AS bigint) + (
        SELECT coalesce(sum(reserved_micros), 0) FROM usage_days
        WHERE owner_id = :owner_id AND day = {TODAY}) <= {MOST_MICROS}, true))
"""  # noqa: S608 (only constants)

SPENDABLE: Final = text(f"SELECT {MOST_MICROS}")

USED_TODAY: Final = text(f"""
SELECT (SELECT coalesce(sum(reserved_ms), 0) / 1000.0 FROM usage_days
        WHERE owner_id = :owner_id AND day = {TODAY})::float8 AS reserved_seconds,
       (SELECT coalesce(sum(reserved_micros), 0) FROM usage_days
        WHERE owner_id = :owner_id AND day = {TODAY})::bigint AS reserved_micros,
       (({TODAY} + 1)::timestamp AT TIME ZONE 'UTC') AS renews_at,
       ceil(extract(epoch FROM (({TODAY} + 1)::timestamp AT TIME ZONE 'UTC')
            - clock_timestamp()))::int AS renews_in_seconds
""")  # noqa: S608 (only constants)

# The cost of an ended job: the provider's figure, which the worker noted when it got it, else the
# price, unless no create was sent, or one was answered with a refusal.
SPENT: Final = """
    CASE WHEN price_micros IS NULL THEN 0 ELSE coalesce(
        (SELECT round((c.value ->> 'cost_usd')::numeric * 1000000)::bigint FROM checkpoints c
         WHERE c.job_id = jobs.id AND c.name = 'cost'),
        (SELECT price_micros FROM checkpoints c WHERE c.job_id = jobs.id AND c.name = 'remote'
         AND c.value ->> 'reached' <> 'refused'),
        0) END
"""

# An end gives back on the day of the submit and counts on its own day. In order of the key, so
# that two transitions of many jobs do not wait for each other.
ADD_ENDED: Final = text(f"""
INSERT INTO usage_days AS u (owner_id, day, engine, reserved_ms, succeeded, failed, canceled,
                             video_ms, render_seconds, reserved_micros, cost_micros)
SELECT owner_id, day, engine, sum(reserved_ms), sum(succeeded), sum(failed), sum(canceled),
       sum(video_ms), sum(render_seconds), sum(reserved_micros), sum(cost_micros)
FROM (
    SELECT owner_id, (created_at AT TIME ZONE 'UTC')::date AS day, engine,
           CASE WHEN status = 'succeeded' THEN 0 ELSE -{CLIP_MS} END AS reserved_ms,
           0 AS succeeded, 0 AS failed, 0 AS canceled, 0 AS video_ms,
           0::float8 AS render_seconds, {SPENT} - coalesce(price_micros, 0) AS reserved_micros,
           0 AS cost_micros
    FROM jobs WHERE id = ANY(:ids) AND (status <> 'succeeded' OR price_micros IS NOT NULL)
    UNION ALL
    SELECT owner_id, (finished_at AT TIME ZONE 'UTC')::date, engine, 0,
           (status = 'succeeded')::int, (status = 'failed')::int, (status = 'canceled')::int,
           CASE WHEN status = 'succeeded' THEN {CLIP_MS} ELSE 0 END,
           coalesce((metrics ->> 'render_seconds')::float8, 0), 0, {SPENT}
    FROM jobs WHERE id = ANY(:ids)
) AS told
GROUP BY owner_id, day, engine ORDER BY owner_id, day, engine
ON CONFLICT (owner_id, day, engine) DO UPDATE SET
    reserved_ms = u.reserved_ms + excluded.reserved_ms,
    succeeded = u.succeeded + excluded.succeeded,
    failed = u.failed + excluded.failed,
    canceled = u.canceled + excluded.canceled,
    video_ms = u.video_ms + excluded.video_ms,
    render_seconds = u.render_seconds + excluded.render_seconds,
    reserved_micros = u.reserved_micros + excluded.reserved_micros,
    cost_micros = u.cost_micros + excluded.cost_micros
""")  # noqa: S608 (only constants)

_PAID_TODAY: Final = text(f"""
SELECT engine, sum(cost_micros) / 1000000.0::float8 AS usd FROM usage_days
WHERE day = {TODAY} AND cost_micros > 0 GROUP BY engine ORDER BY engine
""")  # noqa: S608 (only constants)

_DAYS: Final = text("""
SELECT day, engine, succeeded, failed, canceled, video_ms / 1000.0::float8 AS video_seconds,
       render_seconds, reserved_ms / 1000.0::float8 AS reserved_seconds,
       cost_micros / 1000000.0::float8 AS cost_usd,
       reserved_micros / 1000000.0::float8 AS reserved_usd
FROM usage_days
WHERE owner_id = :owner_id AND day BETWEEN :since AND :until
  AND (CAST(:engine AS text) IS NULL OR engine = CAST(:engine AS text))
ORDER BY day DESC, engine
""")
