"""The log of webhook deliveries: every try of each, tests, and replays of one or of a range."""

from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final, Self
from uuid import UUID

from pydantic import BaseModel, ConfigDict
from sqlalchemy import RowMapping, text

from shared.db import Database
from shared.errors import (
    AddressGone,
    DeliveryUnderWay,
    EndpointDisabled,
    InvalidRequest,
)
from shared.ids import new_id
from shared.paging import Cut, Page
from shared.webhooks.endpoints import Endpoint, no_such_cursor
from shared.webhooks.signing import DELIVERY_ID

parse_delivery_id: Final = DELIVERY_ID.parse
no_such_delivery: Final = DELIVERY_ID.not_found

MAX_REPLAYED: Final = 10_000
"""The most deliveries that one request may send again: the statement must end within the
database's deadline."""


class DeliveryStatus(StrEnum):
    PENDING = "pending"
    DELIVERED = "delivered"
    DEAD = "dead"


class Attempt(BaseModel):
    """One try as it was recorded; `error` is None only after a 2xx."""

    model_config = ConfigDict(frozen=True)

    at: datetime
    status_code: int | None
    latency_ms: int
    error: str | None
    excerpt: str | None


@dataclass(frozen=True, kw_only=True)
class DeliveryRecord:
    """A delivery with every try so far: of a job, of a batch, or a test, which is of neither."""

    id: UUID
    job_id: UUID | None
    batch_id: UUID | None
    endpoint_id: UUID
    is_one_off: bool
    event: str
    url: str
    status: DeliveryStatus
    created_at: datetime
    next_at: datetime | None
    delivered_at: datetime | None
    dead_reason: str | None
    attempts: tuple[Attempt, ...]

    @classmethod
    def from_row(cls, row: RowMapping) -> Self:
        values = {field.name: row[field.name] for field in fields(cls)}
        values["status"] = DeliveryStatus(row["status"])
        values["attempts"] = tuple(Attempt.model_validate(each) for each in row["attempts"])
        return cls(**values)


@dataclass(frozen=True, kw_only=True)
class Window:
    """The deliveries of an endpoint that were made from `since` on and before `until`."""

    since: datetime
    until: datetime | None
    status: DeliveryStatus


class DeliveryLog:
    """What was sent and what will be sent; every query names the owner."""

    def __init__(
        self, db: Database, *, first_try: timedelta, max_replayed: int = MAX_REPLAYED
    ) -> None:
        """`first_try` is how long a replay waits, as the first try of a delivery does."""
        self._db = db
        self._max_replayed = max_replayed
        self._first_try = first_try

    def get(self, delivery_id: UUID, *, owner_id: UUID) -> DeliveryRecord:
        """Return an owner's delivery.

        Raises:
            NotFound: foreign and missing deliveries, and those of deleted endpoints, alike.
        """
        with self._db.autocommit() as connection:
            values = {"id": delivery_id, "owner_id": owner_id}
            row = connection.execute(_BY_ID, values).mappings().first()
        if row is None:
            raise no_such_delivery()
        return DeliveryRecord.from_row(row)

    def page(
        self,
        endpoint: Endpoint,
        cut: Cut,
        *,
        owner_id: UUID,
        status: DeliveryStatus | None,
        job_id: UUID | None,
    ) -> Page[DeliveryRecord]:
        """Return up to `limit` deliveries of an endpoint that follow `after`.

        Raises:
            InvalidRequest: `after` is not a delivery of this endpoint.
        """
        values: dict[str, Any] = {
            "owner_id": owner_id,
            "endpoint_id": endpoint.id,
            "status": status,
            "job_id": job_id,
            "after": cut.after,
            "limit": cut.limit + 1,
        }
        with self._db.autocommit() as connection:
            if cut.after is not None and connection.execute(_CURSOR, values).first() is None:
                raise no_such_cursor()
            statement = _NEWEST if cut.newest_first else _OLDEST
            rows = connection.execute(statement, values).mappings().all()
        return Page.of([DeliveryRecord.from_row(row) for row in rows], cut)

    def add_test(self, endpoint: Endpoint, event: str, *, owner_id: UUID) -> UUID:
        """Make the keeper send a sample of an event, once."""
        delivery_id = new_id()
        values = {
            "id": delivery_id,
            "owner_id": owner_id,
            "endpoint_id": endpoint.id,
            "event": event,
            "url": endpoint.url,
        }
        with self._db.begin() as connection:
            connection.execute(_ADD_TEST, values)
        return delivery_id

    def replay(self, delivery_id: UUID, *, owner_id: UUID) -> DeliveryRecord:
        """Send a delivery again, under its own id and by the whole schedule, however it ended.

        Raises:
            NotFound: as `get`.
            EndpointDisabled: nothing would be sent.
            DeliveryUnderWay: the result of the try would undo the replay.
            AddressGone: its job was deleted, and the address with it.
        """
        values = {"id": delivery_id, "owner_id": owner_id}
        with self._db.begin() as connection:
            found = connection.execute(_BY_ID, values).mappings().first()
            if found is None:
                raise no_such_delivery()
            _refuse_disabled(found["disabled_reason"])
            if not found["url"]:
                raise AddressGone("the job was deleted, and its webhook's address with it")
            again = values | {"first_try": self._first_try}
            if connection.execute(_REPLAY, again).rowcount == 0:
                raise DeliveryUnderWay(
                    "a try is under way; wait for its result, or try again later"
                )
            return DeliveryRecord.from_row(connection.execute(_BY_ID, values).mappings().one())

    def replay_range(self, endpoint: Endpoint, window: Window, *, owner_id: UUID) -> int:
        """Send again the deliveries that ended in a window, except tests, and return how many.

        Raises:
            EndpointDisabled: nothing would be sent.
            InvalidRequest: there are more than `max_replayed` deliveries.
        """
        _refuse_disabled(endpoint.disabled_reason)
        values: dict[str, Any] = {
            "owner_id": owner_id,
            "endpoint_id": endpoint.id,
            "since": window.since,
            "until": window.until,
            "status": window.status,
            "most": self._max_replayed + 1,
            "first_try": self._first_try,
        }
        with self._db.begin() as connection:
            replayed = connection.execute(_REPLAY_RANGE, values).rowcount
            if replayed > self._max_replayed:
                raise InvalidRequest(
                    f"more than {self._max_replayed} such deliveries were made between since and"
                    " until; choose a shorter time",
                    param="until",
                )
        return replayed


def _refuse_disabled(reason: str | None) -> None:
    if reason is not None:
        raise EndpointDisabled(f"the endpoint is disabled: {reason}; enable it first")


_SENT: Final = """
SELECT d.*, e.url IS NULL AS is_one_off, e.disabled_reason, coalesce((
    SELECT json_agg(json_build_object(
        'at', a.at, 'status_code', a.status_code, 'latency_ms', a.latency_ms,
        'error', a.error, 'excerpt', a.excerpt) ORDER BY a.id)
    FROM delivery_attempts a WHERE a.delivery_id = d.id), '[]') AS attempts
FROM deliveries d JOIN webhook_endpoints e ON e.id = d.endpoint_id AND e.deleted_at IS NULL
WHERE d.owner_id = :owner_id
"""

_BY_ID: Final = text(f"{_SENT} AND d.id = :id")

_CURSOR: Final = text(
    "SELECT 1 FROM deliveries"
    " WHERE id = :after AND endpoint_id = :endpoint_id AND owner_id = :owner_id"
)

_NEWEST, _OLDEST = (
    text(f"""
{_SENT} AND d.endpoint_id = :endpoint_id
    AND (CAST(:after AS uuid) IS NULL OR d.id {comes} CAST(:after AS uuid))
    AND (CAST(:status AS text) IS NULL OR d.status = :status)
    AND (CAST(:job_id AS uuid) IS NULL OR d.job_id = :job_id)
ORDER BY d.id {order} LIMIT :limit
""")
    for comes, order in (("<", "DESC"), (">", "ASC"))
)

_ADD_TEST: Final = text("""
INSERT INTO deliveries (id, owner_id, endpoint_id, event, url, next_at)
VALUES (:id, :owner_id, :endpoint_id, :event, :url, clock_timestamp())
""")

# `tries` keeps counting, because it is the fence: a sender that froze before the replay must not
# record over it.
_AGAIN: Final = """
UPDATE deliveries d
SET status = 'pending', next_at = clock_timestamp() + :first_try, round_tries = 0,
    dead_reason = NULL, delivered_at = NULL, url = coalesce(e.url, d.url)
FROM webhook_endpoints e
WHERE e.id = d.endpoint_id AND d.owner_id = :owner_id
"""

_REPLAY: Final = text(
    f"{_AGAIN} AND d.id = :id AND (d.lease_until IS NULL OR d.lease_until <= clock_timestamp())"
)

_REPLAY_RANGE: Final = text(f"""
{_AGAIN} AND d.id IN (
    SELECT id FROM deliveries
    WHERE owner_id = :owner_id AND endpoint_id = :endpoint_id
      AND (job_id IS NOT NULL OR batch_id IS NOT NULL)
      AND status = :status AND created_at >= :since AND url <> ''
      AND (CAST(:until AS timestamptz) IS NULL OR created_at < :until)
    ORDER BY id LIMIT :most)
""")  # noqa: S608 (only constants)
