"""Reads the state of all queues by one statement, however many callers ask for a place in one."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, RowMapping, text

from shared.db import Database
from shared.engines.registry import WORKER_ALIVE_SECONDS
from shared.jobs.estimates import EngineQueue, QueueBoard, Rendered

LOOKED_AT: Final = 300
"""The newest ended jobs of an engine that are read; its history is the newest of them that
succeeded."""

SAMPLE: Final = 200
EXACT: Final = 100
"""The first places of a queue that are exact; the later ones are known to a tenth."""

NEAR: Final = 1000
"""Up to this place every tenth is known, and from here on every hundredth."""

RIGHT_SHARE: Final = 0.25
"""An estimate was right if the end was off by no more than this share of the whole time."""

RIGHT_SECONDS: Final = 10.0
"""... or by no more than this."""


TAIL_SECONDS: Final = 3.0
"""How long what was counted behind the exact places serves; with 20,000 it takes 40 ms."""


@dataclass(frozen=True)
class _Tail:
    """The jobs of a queue when all of it was last counted."""

    read_at: float
    queued: int
    oldest_at: datetime
    marks: Sequence[tuple[datetime, int]]


class QueueBoards:
    """Reads every engine's queue; for one thread at a time."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._tails: Mapping[str, _Tail] = {}

    def read(self) -> QueueBoard:
        """Return every engine's queue as it is now; of a long one its first places."""
        values = {
            "alive": WORKER_ALIVE_SECONDS,
            "looked_at": LOOKED_AT,
            "sample": SAMPLE,
            "first": EXACT + 1,
            "share": RIGHT_SHARE,
            "seconds": RIGHT_SECONDS,
        }
        with self._db.autocommit() as connection:
            at = connection.execute(text("SELECT clock_timestamp()")).scalar_one()
            rows = connection.execute(_BOARD, values).mappings().all()
            self._tails = {
                row["engine"]: self._tail(connection, row["engine"])
                for row in rows
                if len(row["claims"] or ()) > EXACT
            }
        queues = [_queue(row, at, self._tails.get(row["engine"])) for row in rows]
        return QueueBoard(at, {queue.engine: queue for queue in queues})

    def _tail(self, connection: Connection, engine: str) -> _Tail:
        known = self._tails.get(engine)
        if known is not None and time.monotonic() - known.read_at < TAIL_SECONDS:
            return known
        row = connection.execute(_TAIL, {"engine": engine, "near": NEAR}).mappings().one()
        marks = list(zip(row["claims"] or (), row["ranks"] or (), strict=True))
        return _Tail(time.monotonic(), row["queued"], row["oldest_at"], marks)


def _queue(row: RowMapping, at: datetime, tail: _Tail | None) -> EngineQueue:
    history: list[Any] = row["history"] or []
    claims: Sequence[datetime] = row["claims"] or ()
    marks = [(claim_at, rank) for rank, claim_at in enumerate(claims[:EXACT], 1)]
    queued, oldest_at = len(claims), row["oldest_at"]
    if tail is not None:
        last = claims[EXACT - 1]
        marks += [mark for mark in tail.marks if mark[0] > last and mark[1] > EXACT]
        # Some jobs may have left the queue since, and the end of the current ones was not seen.
        queued = max(queued, tail.queued)
        oldest_at = min(oldest_at, tail.oldest_at)
    return EngineQueue(
        engine=row["engine"],
        queued=queued,
        running=len(row["running_left"] or ()),
        workers=row["workers"],
        oldest_seconds=None if oldest_at is None else (at - oldest_at).total_seconds(),
        marks=marks,
        running_left=row["running_left"] or (),
        rendered=[Rendered(seconds, done, quality) for seconds, done, quality, _ in history],
        judged=sum(right is not None for *_, right in history),
        right=sum(right is True for *_, right in history),
        is_paused=row["is_paused"],
    )


# A running job without a known end counts with the usual time: it is None here.
_BOARD: Final = text("""
SELECT e.name AS engine, q.*, r.*, h.*,
    EXISTS (SELECT FROM pauses p WHERE p.engine IN (e.name, '')) AS is_paused,
    (SELECT count(*) FROM workers WHERE e.name = ANY(engines) AND state <> 'stopped'
     AND beat_at > clock_timestamp() - make_interval(secs => :alive)) AS workers
FROM engines e
CROSS JOIN LATERAL (
    SELECT min(created_at) AS oldest_at, array_agg(claim_at ORDER BY claim_at) AS claims FROM (
        SELECT claim_at, created_at FROM jobs WHERE status = 'queued' AND engine = e.name
        ORDER BY claim_at LIMIT :first) AS queue) AS q
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
            SELECT * FROM jobs WHERE finished_at IS NOT NULL
                AND (engine, finished_at) > (e.name, '-infinity')
                AND (engine, finished_at) < (e.name, 'infinity')
            ORDER BY engine DESC, finished_at DESC LIMIT :looked_at) AS newest
        WHERE status = 'succeeded' ORDER BY finished_at DESC LIMIT :sample) AS done) AS h
""")

_TAIL: Final = text("""
SELECT count(*) AS queued, min(created_at) AS oldest_at,
    array_agg(claim_at ORDER BY rank) FILTER (WHERE is_mark) AS claims,
    array_agg(rank ORDER BY rank) FILTER (WHERE is_mark) AS ranks
FROM (
    SELECT *, rank % CASE WHEN rank <= :near THEN 10 ELSE 100 END = 0 AS is_mark FROM (
        SELECT claim_at, created_at, row_number() OVER (ORDER BY claim_at) AS rank FROM jobs
        WHERE status = 'queued' AND engine = :engine) AS queue) AS marked
""")
