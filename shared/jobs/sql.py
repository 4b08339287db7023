"""The SQL of each transition, with its guard from TRANSITIONS; `transitions.py` runs it."""

from collections.abc import Callable
from typing import Final

from sqlalchemy import TextClause, text

from shared.jobs import fairness
from shared.jobs.fairness import PLACE
from shared.jobs.pauses import NOT_PAUSED
from shared.jobs.residency import SWAP_RANK
from shared.jobs.usage import HAS_MONEY_LEFT, HAS_SECONDS_LEFT, RESERVE
from shared.lifecycle import TERMINAL, TRANSITIONS, Event, Status
from shared.owners import BATCH_LINK_EPOCH, LINK_EPOCH


def _transition(event: Event, assignments: str, where: str, returning: str = "*") -> TextClause:
    """Return the one guarded UPDATE of an event; Postgres' clock is the only clock."""
    transition = TRANSITIONS[event]
    sources = ", ".join(f"'{status}'" for status in sorted(transition.sources))
    sets = [f"status = '{transition.target}'", "version = version + 1"]
    if transition.target is not Status.RUNNING:
        sets += ["lease_until = NULL", "stage = NULL", "eta_seconds = NULL"]
        sets.append("preview_step = NULL")
    if transition.target is Status.QUEUED:
        sets += ["worker = NULL", "step = NULL", "total_steps = NULL"]
    if transition.target in TERMINAL:
        sets += [
            "finished_at = clock_timestamp()",
            "expires_at = clock_timestamp() + make_interval(secs => retain_seconds)",
            "sweep_at = clock_timestamp() + :grace",
        ]
    if assignments:
        sets.append(assignments)
    return text(
        f"UPDATE jobs SET {', '.join(sets)} WHERE status IN ({sources}) AND {where}"
        f" RETURNING {returning}"
    )


_FENCE: Final = "id = :id AND attempt = :attempt"
_ERROR: Final = "error_code = :code, error_message = :message, error_retryable = :retryable"

# Submits and claims of one owner wait for each other, so that turns and caps are exact.
LINE_UP: Final = text("SELECT pg_advisory_xact_lock(:line, hashtext(CAST(:owner_id AS text)))")
SUBMITS: Final = 7_860_003
CLAIMS: Final = 7_860_004

# They need not be in order of age; the order of names is the same each time.
INPUTS: Final = (
    "coalesce((SELECT jsonb_agg(to_jsonb(i) ORDER BY i.name) FROM inputs i"
    " WHERE i.job_id = jobs.id), '[]')"
)
INPUTS_OF: Final = text(f"SELECT {INPUTS} FROM jobs WHERE id = :id")

ADD_INPUT: Final = text(
    "INSERT INTO inputs (job_id, name, kind, key, sha256, width, height)"
    " VALUES (:job_id, :name, :kind, :key, :sha256, :width, :height)"
)

SUBMIT: Final = text(f"""
WITH made AS (
INSERT INTO jobs (
    id, owner_id, status, engine, engine_revision, parameters, outputs, priority,
    image_sha256, image_width, image_height, gpu_bytes, price_micros, needs, source, request_id,
    parent_id, batch_id, batch_position, idempotency_key, idempotency_fingerprint,
    webhook_url, webhook_event_types, webhook_headers,
    metadata, warnings, retain_seconds, expected_seconds, claim_at, due_at, queue_deadline)
SELECT
    :id, :owner_id, 'queued', :engine, :engine_revision, CAST(:parameters AS jsonb), :outputs,
    :priority, :image_sha256, :image_width, :image_height, :gpu_bytes,
    :price_micros, :needs, :source,
    :request_id, :parent_id, :batch_id, :batch_position,
    :idempotency_key, :idempotency_fingerprint, :webhook_url, :webhook_event_types,
    :webhook_headers,
    CAST(:metadata AS jsonb), CAST(:warnings AS jsonb), :retain_seconds,
    CAST(:expected_seconds AS float8),
    place.claim_at, clock_timestamp(), clock_timestamp() + :queue_ttl
FROM ({PLACE}) AS place
WHERE (SELECT count(*) FROM jobs WHERE owner_id = :owner_id AND status = 'queued') < :max_queued
  AND {HAS_SECONDS_LEFT} AND {HAS_MONEY_LEFT}
ON CONFLICT (owner_id, idempotency_key) WHERE idempotency_key IS NOT NULL DO NOTHING
RETURNING *
), reserved AS ({RESERVE})
SELECT * FROM made
""")

SUBMIT_BATCH: Final = text(f"""
INSERT INTO batches (id, owner_id, metadata, webhook_url, webhook_headers, idempotency_key,
                     idempotency_fingerprint, total)
VALUES (:id, :owner_id, CAST(:metadata AS jsonb), :webhook_url, :webhook_headers,
        :idempotency_key, :idempotency_fingerprint, :total)
ON CONFLICT (owner_id, idempotency_key) WHERE idempotency_key IS NOT NULL DO NOTHING
RETURNING *, {BATCH_LINK_EPOCH} AS link_epoch
""")

_MAY_START: Final = (
    "due_at <= clock_timestamp()"
    " AND (queue_deadline IS NULL OR queue_deadline > clock_timestamp())"
    # The fields that its engine's spec, as this worker has it, honours.
    " AND (needs = '{}' OR needs <@ ARRAY("
    "SELECT jsonb_array_elements_text(CAST(:honours AS jsonb) -> engine)))"
    # A card of unknown size takes all jobs.
    " AND (gpu_bytes IS NULL OR coalesce(gpu_bytes <= CAST(:card_bytes AS bigint), true))"
)

IS_SOMEBODY_FULL: Final = text(fairness.IS_SOMEBODY_FULL)


def _claim(first_of: Callable[..., str]) -> TextClause:
    """Return the statement that takes the best job.

    The engines in the order of their first jobs, then the first free job of one: each is a short
    walk along an index, where all engines at once would be a sort of the whole queue.
    """
    taken = first_of("first.engine", _MAY_START, locked="FOR UPDATE SKIP LOCKED")
    return _transition(
        Event.CLAIM,
        "attempt = attempt + 1, worker = :worker, lease_until = clock_timestamp() + :lease,"
        " started_at = clock_timestamp(), stage = 'loading', step = NULL, total_steps = NULL",
        "id = (SELECT best.id FROM ("
        "SELECT head.engine FROM unnest(CAST(:engines AS text[])) AS one(name)"
        f" CROSS JOIN LATERAL ({first_of('one.name', _MAY_START)}) AS head WHERE {NOT_PAUSED}"
        f" ORDER BY {SWAP_RANK}, head.claim_at) AS first"
        f" CROSS JOIN LATERAL ({taken}) AS best LIMIT 1)",
        f"*, {fairness.CAP} AS cap, {INPUTS} AS inputs",
    )


CLAIM: Final = _claim(fairness.first_of_anybody)
# Two statements, since one that holds both takes Postgres as long to plan as a claim takes.
CLAIM_BESIDE_FULL: Final = _claim(fairness.first_of_others)

RUNNING: Final = text(
    "SELECT count(*) FROM jobs WHERE owner_id = :owner_id AND status = 'running'"
)

BEAT: Final = text(
    "UPDATE jobs SET lease_until = clock_timestamp() + :lease, version = version + 1,"
    " stage = :stage, step = :step, total_steps = :total_steps, eta_seconds = :eta_seconds,"
    " preview_step = :preview_step"
    " WHERE id = :id AND attempt = :attempt AND status = 'running' RETURNING version, owner_id"
)

# `due_at` is when the wait of a job began that was queued before; its turn is `claim_at`.
_AGAIN: Final = "due_at = clock_timestamp()"

HAND_BACK: Final = _transition(Event.HAND_BACK, _AGAIN, _FENCE)
HAND_BACK_ALL: Final = _transition(Event.HAND_BACK, _AGAIN, "worker = :worker")

PUT_OFF: Final = _transition(
    Event.HAND_BACK, "due_at = clock_timestamp() + CAST(:delay AS interval)", _FENCE
)

RETRY: Final = _transition(
    Event.RETRY,
    "failures = failures + 1, due_at = clock_timestamp() + :backoff,"
    " error_code = :code, error_message = :message",
    _FENCE,
)

COMPLETE: Final = _transition(
    Event.COMPLETE,
    "result = CAST(:result AS jsonb), metrics = CAST(:metrics AS jsonb),"
    " error_code = NULL, error_message = NULL",
    _FENCE,
)

PUBLISHED: Final = text(f"SELECT true FROM jobs WHERE {_FENCE} AND status = 'succeeded'")

# A queued job may fail too, but not through the worker that lost it, whose attempt is still the
# newest.
FAIL: Final = _transition(
    Event.FAIL,
    f"{_ERROR}, metrics = CAST(:metrics AS jsonb)",
    f"{_FENCE} AND status = 'running'",
)

CANCEL: Final = _transition(
    Event.CANCEL,
    "error_code = NULL, error_message = NULL",
    "id = :id AND owner_id = :owner_id AND deleted_at IS NULL",
)

# In one order, so that two cancels of one batch do not wait for each other.
CANCEL_BATCH: Final = _transition(
    Event.CANCEL,
    "error_code = NULL, error_message = NULL",
    "id IN (SELECT id FROM jobs WHERE batch_id = :batch_id AND owner_id = :owner_id"
    " AND status IN ('queued', 'running') ORDER BY id FOR UPDATE)",
)

MARK_BATCH_CANCELED: Final = text(
    "UPDATE batches SET canceled_at = coalesce(canceled_at, clock_timestamp())"
    f" WHERE id = :batch_id AND owner_id = :owner_id RETURNING *, {BATCH_LINK_EPOCH} AS link_epoch"
)

TIME_OUT: Final = _transition(
    Event.FAIL,
    "error_code = 'queue_timeout', error_retryable = true,"
    " error_message = 'no worker was free within queue_ttl_seconds; try again later'",
    "id IN (SELECT id FROM jobs WHERE status = 'queued' AND queue_deadline <= clock_timestamp()"
    " LIMIT 100 FOR UPDATE SKIP LOCKED)",
)

LATE: Final = "lease_until < clock_timestamp()"
HELD_BY: Final = "worker = :worker"
HELD_BY_EARLIER: Final = "split_part(worker, '#', 1) = :place AND worker <> :worker"


def lose(where: str) -> TextClause:
    """Return the statement that queues lost jobs again while they have failures left."""
    return _transition(
        Event.LOSE,
        "failures = failures + 1, due_at = clock_timestamp(), error_code = 'worker_lost',"
        " error_message = 'the worker was lost; the job was queued again'",
        f"id IN (SELECT id FROM jobs WHERE status = 'running' AND {where}"
        " AND failures + 1 < :max_attempts LIMIT 100 FOR UPDATE SKIP LOCKED)",
    )


def fail_lost(where: str) -> TextClause:
    """Return the statement that ends lost jobs which have no failure left."""
    return _transition(
        Event.FAIL,
        "error_code = 'worker_lost', error_retryable = true,"
        " error_message = 'the worker was lost ' || (failures + 1) || ' times while rendering"
        " this job; a smaller clip may get through'",
        f"id IN (SELECT id FROM jobs WHERE status = 'running' AND {where}"
        " AND failures + 1 >= :max_attempts LIMIT 100 FOR UPDATE SKIP LOCKED)",
    )


BURY: Final = text(
    "UPDATE jobs SET deleted_at = clock_timestamp(), sweep_at = clock_timestamp(),"
    " idempotency_key = NULL, version = version + 1"
    " WHERE id = :id AND owner_id = :owner_id AND deleted_at IS NULL RETURNING *"
)

BY_ID: Final = text(
    "SELECT * FROM jobs WHERE id = :id AND owner_id = :owner_id AND deleted_at IS NULL"
)
BY_KEY: Final = text(
    f"SELECT *, {LINK_EPOCH} AS link_epoch FROM jobs"
    " WHERE owner_id = :owner_id AND idempotency_key = :key"
)

_BATCH: Final = f"SELECT *, {BATCH_LINK_EPOCH} AS link_epoch FROM batches"
BATCH_BY_ID: Final = text(f"{_BATCH} WHERE id = :batch_id AND owner_id = :owner_id")
BATCH_BY_KEY: Final = text(f"{_BATCH} WHERE owner_id = :owner_id AND idempotency_key = :key")
