"""The outbox of webhooks as rows: due deliveries, and the result of each try."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final
from uuid import UUID

from sqlalchemy import text

from shared.db import Database
from shared.jobs.batch import Batch
from shared.jobs.job import Job
from shared.owners import BATCH_LINK_EPOCH

PATIENCE: Final = timedelta(days=5)
"""How long an endpoint may fail every try before it is disabled."""

LOOKED_AT: Final = 2000
"""How many due one-off deliveries of an owner a claim reads; the next ones wait for these."""

BURIED: Final = 5000
"""How many deliveries end in one statement, which must be done within the database's deadline."""


class Kind(StrEnum):
    """What the rows predict about a receiver; each kind has threads of its own."""

    RETRY = "retry"
    NEW = "new"
    PROVEN = "proven"


class Outcome(StrEnum):
    DELIVERED = "delivered"
    RETRY = "retry"
    DEAD = "dead"


@dataclass(frozen=True, kw_only=True)
class Delivery:
    """A delivery claimed for one try; `tries` is the fence that its record names.

    `receiver_key` names the unit that is slowed down by a dead receiver: the endpoint, or the host
    of an owner's one-off URLs.
    """

    id: UUID
    owner_id: UUID
    job_id: UUID | None
    batch_id: UUID | None
    endpoint_id: UUID
    event: str
    url: str
    tries: int
    round_tries: int
    receiver_key: str

    @property
    def is_one_off(self) -> bool:
        """Whether it goes to a URL of its job, and not to a registered endpoint."""
        return self.receiver_key != str(self.endpoint_id)

    @property
    def is_test(self) -> bool:
        return self.job_id is None and self.batch_id is None


@dataclass(frozen=True, kw_only=True)
class Contents:
    """The parts of a try; `created_at` is the delivery's, `now` is Postgres' clock.

    `sealed_headers` are those of the own webhook of a job or a batch; endpoints have none.
    """

    job: Job | None
    batch: Batch | None
    created_at: datetime
    signing_secrets: tuple[str, ...]
    now: datetime
    sealed_headers: str | None = None


@dataclass(frozen=True, kw_only=True)
class Try:
    """The result of one request; `error` is None only after a 2xx."""

    at: datetime
    latency: timedelta
    status_code: int | None = None
    error: str | None = None
    excerpt: str | None = None
    retry_after: timedelta | None = None


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What a try leads to: for a retry the bounds of the wait, for a dead letter its reason."""

    outcome: Outcome
    wait_at_least: timedelta = timedelta(0)
    wait_at_most: timedelta = timedelta(0)
    dead_reason: str | None = None
    is_gone: bool = False


class DeliveryQueue:
    """Claims, contents and records; every statement is safe beside other keepers."""

    def __init__(self, db: Database, *, lease: timedelta) -> None:
        self._db = db
        self._lease = lease

    def are_due(self) -> bool:
        """Say whether a delivery is due now; an idle keeper runs only this query."""
        with self._db.autocommit() as connection:
            return bool(connection.execute(_ANY_DUE).scalar())

    def bury(self) -> int:
        """End due deliveries to endpoints that are disabled or deleted, at most BURIED.

        Returns how many; if it is BURIED there may be more.
        """
        with self._db.begin() as connection:
            return connection.execute(_BURY).rowcount

    def claim(
        self,
        kind: Kind,
        *,
        limit: int,
        busy_receiver_keys: Sequence[str],
        proven_receiver_keys: Sequence[str],
        per_receiver: int,
        per_owner: int,
        owners_room: Mapping[UUID, int],
    ) -> list[Delivery]:
        """Take up to `limit` due deliveries in turns: owners with the most room first.

        Of one owner the longest due comes first.

        Args:
            busy_receiver_keys: the receiver key of each try in flight; with these no
                receiver exceeds `per_receiver`.
            proven_receiver_keys: those that took their last delivery. Of these are the
                PROVEN, of the others the NEW; a RETRY failed before, or goes to an endpoint
                that fails now.
            per_owner: how many an owner may get that has no try in flight.
            owners_room: how many each other owner may get.
        """
        values = {
            "kind": kind,
            "limit": limit,
            "busy": list(busy_receiver_keys),
            "proven": list(proven_receiver_keys),
            "per_receiver": per_receiver,
            "per_owner": per_owner,
            "owner_ids": list(owners_room),
            "rooms": list(owners_room.values()),
            "lease": self._lease,
        }
        with self._db.begin() as connection:
            rows = connection.execute(_CLAIM, values).mappings().all()
        return [Delivery(**row) for row in rows]

    def contents(self, delivery: Delivery) -> Contents:
        with self._db.autocommit() as connection:
            row = connection.execute(_CONTENTS, {"id": delivery.id}).mappings().one()
            batch = None
            if delivery.batch_id is not None:
                found = connection.execute(_BATCH, {"id": delivery.batch_id}).mappings()
                batch = Batch.from_row(found.one())
        current, previous = row["signing_secret"], row["previous_signing_secret"]
        return Contents(
            job=None if row["id"] is None else Job.from_row(row),
            batch=batch,
            created_at=row["delivery_created_at"],
            signing_secrets=(current,) if previous is None else (current, previous),
            now=row["now"],
            sealed_headers=row["sealed_headers"],
        )

    def record(self, delivery: Delivery, tried: Try, verdict: Verdict) -> bool:
        """Write a try and what it means; return False when a newer try owns the delivery.

        The try is listed either way, for it was made.
        """
        listed = {
            "delivery_id": delivery.id,
            "at": tried.at,
            "status_code": tried.status_code,
            "latency_ms": round(tried.latency / timedelta(milliseconds=1)),
            "error": tried.error,
            "excerpt": tried.excerpt,
        }
        settled = {
            "id": delivery.id,
            "tries": delivery.tries,
            "status": "pending" if verdict.outcome is Outcome.RETRY else verdict.outcome,
            "at_least": verdict.wait_at_least,
            "at_most": verdict.wait_at_most,
            "dead_reason": verdict.dead_reason,
        }
        endpoint = {"id": delivery.endpoint_id, "gone": verdict.is_gone, "patience": PATIENCE}
        with self._db.begin() as connection:
            connection.execute(_LIST_TRY, listed)
            if connection.execute(_SETTLE, settled).rowcount == 0:
                return False
            if verdict.outcome is Outcome.DELIVERED:
                connection.execute(_ENDPOINT_WORKS, endpoint)
            elif not delivery.is_test or verdict.is_gone:
                # A test may fail while the receiver is being built, so it does not count against
                # the endpoint.
                connection.execute(_ENDPOINT_FAILS, endpoint)
        return True


# A volatile clock_timestamp() would keep the index on next_at from being used; a subquery is
# read once.
_WAITED: Final = """
    d.next_at <= (SELECT clock_timestamp())
    AND (d.lease_until IS NULL OR d.lease_until <= (SELECT clock_timestamp()))
"""
_DUE: Final = f"d.status = 'pending' AND {_WAITED}"

_ANY_DUE: Final = text(f"SELECT EXISTS (SELECT FROM deliveries d WHERE {_DUE})")  # noqa: S608

# A test is how its owner sees that a disabled endpoint works again.
_IS_OPEN: Final = """
    e.deleted_at IS NULL AND (e.disabled_at IS NULL OR d.job_id IS NULL AND d.batch_id IS NULL)
"""

_BURY: Final = text(f"""
UPDATE deliveries d
SET status = 'dead', next_at = NULL, lease_until = NULL, dead_reason = CASE
    WHEN e.deleted_at IS NOT NULL THEN 'the endpoint was deleted'
    ELSE 'the endpoint is disabled: ' || coalesce(e.disabled_reason, 'by its owner') END
FROM webhook_endpoints e
WHERE e.id = d.endpoint_id AND d.id IN (
    SELECT closed.id FROM webhook_endpoints e
    CROSS JOIN (VALUES (true), (false)) AS told(was_tried)
    CROSS JOIN LATERAL (
        SELECT d.id FROM deliveries d
        WHERE d.endpoint_id = e.id AND (d.round_tries > 0) = told.was_tried
              AND {_WAITED} AND NOT ({_IS_OPEN})
        LIMIT {BURIED}) AS closed
    WHERE e.deleted_at IS NOT NULL OR e.disabled_at IS NOT NULL
    LIMIT {BURIED})
""")  # noqa: S608 (only constants)

# Of each endpoint only the first due rows are read, by deliveries_receiver_idx: an owner with
# 800,000 of them would else make each claim take longer than the database's deadline. _WAITED
# does not name the status, else Postgres may read all due rows by deliveries_due_idx instead.
# The host by split_part, because a regular expression took ten times as long on 20,000 due rows.
# IPv6 literals are cut at their first colon, so some of them share a key. One owner's slow host
# is another key than the same host of another owner, who must not wait for it.
_CLAIM: Final = text(f"""
WITH due AS (
    SELECT first.*, receiver.key AS receiver_key,
           row_number() OVER (PARTITION BY receiver.key ORDER BY first.next_at) AS place
    FROM webhook_endpoints e
    CROSS JOIN (VALUES (true), (false)) AS told(was_tried)
    CROSS JOIN LATERAL (
        SELECT d.id, d.owner_id, d.next_at, d.url FROM deliveries d
        WHERE d.endpoint_id = e.id AND (d.round_tries > 0) = told.was_tried
              AND {_WAITED} AND {_IS_OPEN}
        ORDER BY d.next_at
        LIMIT CASE WHEN e.url IS NULL THEN {LOOKED_AT} ELSE :per_receiver END) AS first
    CROSS JOIN LATERAL (SELECT CASE
        WHEN e.url IS NULL THEN first.owner_id::text || '/' || split_part(split_part(split_part(
            lower(split_part(first.url, '/', 3)), ':', 1), '?', 1), '#', 1)
        ELSE e.id::text END) AS receiver(key)
    WHERE :kind = CASE
        WHEN told.was_tried OR e.failing_since IS NOT NULL THEN 'retry'
        WHEN receiver.key = ANY(CAST(:proven AS text[])) THEN 'proven'
        ELSE 'new' END
), next AS (
    SELECT due.id, due.next_at, due.receiver_key,
           row_number() OVER (PARTITION BY due.owner_id ORDER BY due.next_at)
               - coalesce(busy.room, :per_owner) AS turn
    FROM due LEFT JOIN unnest(CAST(:owner_ids AS uuid[]), CAST(:rooms AS int[]))
        AS busy(owner_id, room) ON busy.owner_id = due.owner_id
    WHERE due.place <= :per_receiver
          - cardinality(array_positions(CAST(:busy AS text[]), due.receiver_key))
), mine AS (
    SELECT d.id, next.receiver_key
    FROM deliveries d JOIN next ON next.id = d.id
    WHERE next.turn <= 0 AND {_DUE}
    ORDER BY next.turn, next.next_at
    LIMIT :limit
    FOR UPDATE OF d SKIP LOCKED
)
UPDATE deliveries d SET tries = d.tries + 1, lease_until = clock_timestamp() + :lease
FROM mine WHERE d.id = mine.id
RETURNING d.id, d.owner_id, d.job_id, d.batch_id, d.endpoint_id, d.event, d.url, d.tries,
          d.round_tries, mine.receiver_key
""")  # noqa: S608 (only constants)

_CONTENTS: Final = text("""
SELECT j.*, coalesce(o.link_epoch, 0) AS link_epoch,
       d.created_at AS delivery_created_at, e.secret AS signing_secret,
       CASE WHEN e.previous_secret_until > clock_timestamp() THEN e.previous_secret END
           AS previous_signing_secret,
       CASE WHEN e.url IS NULL THEN coalesce(j.webhook_headers, b.webhook_headers) END
           AS sealed_headers,
       clock_timestamp() AS now
FROM deliveries d
JOIN webhook_endpoints e ON e.id = d.endpoint_id
LEFT JOIN jobs j ON j.id = d.job_id
LEFT JOIN batches b ON b.id = d.batch_id
LEFT JOIN owners o ON o.id = j.owner_id
WHERE d.id = :id
""")

_BATCH: Final = text(
    f"SELECT *, {BATCH_LINK_EPOCH} AS link_epoch FROM batches WHERE id = :id"  # noqa: S608
)

_LIST_TRY: Final = text("""
INSERT INTO delivery_attempts (delivery_id, at, status_code, latency_ms, error, excerpt)
VALUES (:delivery_id, :at, :status_code, :latency_ms, :error, :excerpt)
""")

_SETTLE: Final = text("""
UPDATE deliveries
SET status = :status, round_tries = round_tries + 1, lease_until = NULL,
    dead_reason = :dead_reason,
    next_at = CASE WHEN :status = 'pending' THEN clock_timestamp() + CAST(:at_least AS interval)
        + random() * (CAST(:at_most AS interval) - CAST(:at_least AS interval)) END,
    delivered_at = CASE WHEN :status = 'delivered' THEN clock_timestamp() END
WHERE id = :id AND tries = :tries AND status = 'pending'
""")

_ENDPOINT_WORKS: Final = text("""
UPDATE webhook_endpoints SET failing_since = NULL WHERE id = :id AND failing_since IS NOT NULL
""")

# The endpoint without a URL stands for every one-off receiver of its owner, so it never fails.
_ENDPOINT_FAILS: Final = text("""
UPDATE webhook_endpoints
SET failing_since = coalesce(failing_since, clock_timestamp()),
    disabled_at = CASE WHEN :gone OR failing_since < clock_timestamp() - :patience
        THEN clock_timestamp() END,
    disabled_reason = CASE
        WHEN :gone THEN 'the receiver answered 410 Gone'
        WHEN failing_since < clock_timestamp() - :patience
        THEN 'every try since ' || to_char(failing_since, 'YYYY-MM-DD HH24:MI') || ' UTC failed'
        END
WHERE id = :id AND url IS NOT NULL AND disabled_at IS NULL
""")
