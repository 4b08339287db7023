"""Reading the state of all queues, by one statement however many ask for a place in one."""

from typing import Any, Final

from sqlalchemy import RowMapping, text

from shared.db import Database
from shared.engines.registry import WORKER_ALIVE_SECONDS
from shared.jobs.estimates import EngineQueue, QueueBoard, Rendered

LOOKED_AT: Final = 300
"""Among so many that ended last on an engine, the newest that succeeded are its history."""

SAMPLE: Final = 200
EXACT: Final = 1000
"""The first so many places in a queue are exact; of those behind, every `STRIDE`th is known."""

STRIDE: Final = 100
RIGHT_SHARE: Final = 0.25
"""An estimate was right where the end was off by no more than this share of the whole time."""

RIGHT_SECONDS: Final = 10.0
"""... or by no more than this."""


def read_queue_board(db: Database) -> QueueBoard:
    """Return every engine's queue, as it stands now."""
    values = {
        "alive": WORKER_ALIVE_SECONDS,
        "looked_at": LOOKED_AT,
        "sample": SAMPLE,
        "exact": EXACT,
        "stride": STRIDE,
        "share": RIGHT_SHARE,
        "seconds": RIGHT_SECONDS,
    }
    with db.autocommit() as connection:
        at = connection.execute(text("SELECT clock_timestamp()")).scalar_one()
        rows = connection.execute(_BOARD, values).mappings().all()
    return QueueBoard(at, {row["engine"]: _queue(row) for row in rows})


def _queue(row: RowMapping) -> EngineQueue:
    history: list[Any] = row["history"] or []
    return EngineQueue(
        engine=row["engine"],
        queued=row["queued"],
        running=len(row["running_left"] or ()),
        workers=row["workers"],
        oldest_seconds=row["oldest_seconds"],
        marks=list(zip(row["claims"] or (), row["ranks"] or (), strict=True)),
        running_left=row["running_left"] or (),
        rendered=[Rendered(seconds, done, quality) for seconds, done, quality, _ in history],
        judged=sum(right is not None for *_, right in history),
        right=sum(right is True for *_, right in history),
        is_paused=row["is_paused"],
    )


# A running job that has said nothing of its end has as long to go as is usual: it is None here.
_BOARD: Final = text("""
SELECT e.name AS engine, q.*, r.*, h.*,
    EXISTS (SELECT FROM pauses p WHERE p.engine IN (e.name, '')) AS is_paused,
    (SELECT count(*) FROM workers WHERE e.name = ANY(engines) AND state <> 'stopped'
     AND beat_at > clock_timestamp() - make_interval(secs => :alive)) AS workers
FROM engines e
CROSS JOIN LATERAL (
    SELECT count(*) AS queued,
        extract(epoch FROM clock_timestamp() - min(created_at))::float8 AS oldest_seconds,
        array_agg(claim_at ORDER BY rank) FILTER (WHERE rank <= :exact OR rank % :stride = 0)
            AS claims,
        array_agg(rank ORDER BY rank) FILTER (WHERE rank <= :exact OR rank % :stride = 0)
            AS ranks
    FROM (
        SELECT claim_at, created_at, row_number() OVER (ORDER BY claim_at) AS rank FROM jobs
        WHERE status = 'queued' AND engine = e.name) AS queue) AS q
CROSS JOIN LATERAL (
    SELECT array_agg(eta_seconds ORDER BY started_at) AS running_left FROM jobs
    WHERE status = 'running' AND engine = e.name) AS r
CROSS JOIN LATERAL (
    SELECT json_agg(json_build_array(seconds, done, quality, is_right)) AS history FROM (
        SELECT extract(epoch FROM finished_at - started_at)::float8 AS seconds,
            (parameters ->> 'width')::bigint * (parameters ->> 'height')::bigint
                * (parameters ->> 'num_frames')::bigint
                * (parameters ->> 'num_inference_steps')::bigint AS done,
            coalesce(parameters ->> 'quality', 'standard') AS quality,
            abs(extract(epoch FROM finished_at - created_at)::float8 - expected_seconds)
                <= greatest(:seconds, :share * expected_seconds) AS is_right
        FROM (
            SELECT * FROM jobs WHERE finished_at IS NOT NULL AND engine = e.name
            ORDER BY finished_at DESC LIMIT :looked_at) AS newest
        WHERE status = 'succeeded' ORDER BY finished_at DESC LIMIT :sample) AS done) AS h
""")
