"""Webhook endpoints as rows: register, change, rotate, delete; every query names the owner."""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime, timedelta
from typing import Any, Final, Self
from uuid import UUID

from sqlalchemy import RowMapping, text

from shared.db import Database
from shared.errors import InvalidRequest
from shared.ids import PublicId, new_id
from shared.paging import Cut, Page
from shared.webhooks.enqueue import DEFAULT_ENDPOINT
from shared.webhooks.signing import new_secret

ENDPOINT_ID: Final = PublicId("we_", "no such webhook endpoint")
parse_endpoint_id: Final = ENDPOINT_ID.parse
no_such_endpoint: Final = ENDPOINT_ID.not_found

DEFAULT: Final = "default"
"""In place of an endpoint's id, this names the endpoint of an owner's one-off URLs."""

MAX_ENDPOINTS: Final = 50
"""Each end of a job makes a row for each of them."""

OVERLAP: Final = timedelta(hours=24)


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """A registered receiver; `url` is None on the default one, which signs one-off webhooks."""

    id: UUID
    name: str
    url: str | None
    event_types: tuple[str, ...]
    secret: str = field(repr=False)
    previous_secret_until: datetime | None
    created_at: datetime
    updated_at: datetime
    failing_since: datetime | None
    disabled_at: datetime | None
    disabled_reason: str | None

    @classmethod
    def from_row(cls, row: RowMapping) -> Self:
        values = {each.name: row[each.name] for each in fields(cls)}
        return cls(**{**values, "event_types": tuple(row["event_types"])})

    @property
    def public_id(self) -> str:
        return DEFAULT if self.url is None else ENDPOINT_ID.show(self.id)


@dataclass(frozen=True, kw_only=True)
class Change:
    """What an update asks for; None leaves a value as it is."""

    name: str | None = None
    url: str | None = None
    event_types: Sequence[str] | None = None
    enabled: bool | None = None


class Endpoints:
    """The endpoints of all owners; foreign, deleted and missing ids get the same NotFound."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def register(
        self, *, owner_id: UUID, name: str, url: str, event_types: Sequence[str]
    ) -> Endpoint:
        """Make an endpoint with a secret of its own.

        Raises:
            InvalidRequest: the owner has MAX_ENDPOINTS.
        """
        values = {
            "id": new_id(),
            "owner_id": owner_id,
            "name": name,
            "url": url,
            "event_types": list(event_types),
            "secret": new_secret(),
            "most": MAX_ENDPOINTS,
        }
        with self._db.begin() as connection:
            row = connection.execute(_REGISTER, values).mappings().first()
        if row is None:
            raise InvalidRequest(
                f"you have {MAX_ENDPOINTS} webhook endpoints, which is the limit; delete one"
            )
        return Endpoint.from_row(row)

    def get(self, endpoint_id: UUID, *, owner_id: UUID) -> Endpoint:
        with self._db.autocommit() as connection:
            values = {"id": endpoint_id, "owner_id": owner_id}
            return _one(connection.execute(_BY_ID, values).mappings().first())

    def named(self, name: str, *, owner_id: UUID) -> Endpoint:
        """Return the endpoint of an id as clients write it, or of the word `default`."""
        if name == DEFAULT:
            return self.default(owner_id)
        return self.get(parse_endpoint_id(name), owner_id=owner_id)

    def page(self, cut: Cut, *, owner_id: UUID) -> Page[Endpoint]:
        """Return up to `limit` endpoints that follow `after` in the order asked for.

        Raises:
            InvalidRequest: `after` is not an endpoint of this owner.
        """
        values = {"owner_id": owner_id, "after": cut.after, "limit": cut.limit + 1}
        with self._db.autocommit() as connection:
            if cut.after is not None:
                known = connection.execute(_BY_ID, {"id": cut.after, "owner_id": owner_id})
                if known.first() is None:
                    raise no_such_cursor()
            statement = _NEWEST if cut.newest_first else _OLDEST
            rows = connection.execute(statement, values).mappings().all()
        return Page.of([Endpoint.from_row(row) for row in rows], cut)

    def update(self, endpoint_id: UUID, change: Change, *, owner_id: UUID) -> Endpoint:
        """Change the named values; waiting deliveries follow a new URL.

        Enabling clears why it was disabled and since when it failed.
        """
        values: dict[str, Any] = {
            "id": endpoint_id,
            "owner_id": owner_id,
            "name": change.name,
            "url": change.url,
            "event_types": None if change.event_types is None else list(change.event_types),
            "enabled": change.enabled,
        }
        with self._db.begin() as connection:
            endpoint = _one(connection.execute(_UPDATE, values).mappings().first())
            if change.url is not None:
                connection.execute(_REDIRECT, {"id": endpoint.id, "url": change.url})
        return endpoint

    def delete(self, endpoint_id: UUID, *, owner_id: UUID) -> None:
        with self._db.begin() as connection:
            values = {"id": endpoint_id, "owner_id": owner_id}
            _one(connection.execute(_DELETE, values).mappings().first())

    def rotate(self, endpoint_id: UUID, *, owner_id: UUID, keep_old: bool) -> Endpoint:
        """Draw a new secret; the old one signs beside it for OVERLAP, or ends at once."""
        values = {
            "id": endpoint_id,
            "owner_id": owner_id,
            "secret": new_secret(),
            "keep": keep_old,
            "overlap": OVERLAP,
        }
        with self._db.begin() as connection:
            return _one(connection.execute(_ROTATE, values).mappings().first())

    def default(self, owner_id: UUID) -> Endpoint:
        """Return the endpoint of an owner's one-off URLs; make it if it is missing."""
        with self._db.begin() as connection:
            connection.execute(DEFAULT_ENDPOINT, {"owner_id": owner_id, "secret": new_secret()})
            row = connection.execute(_DEFAULT, {"owner_id": owner_id}).mappings().one()
        return Endpoint.from_row(row)


WRONG_CURSOR: Final = "after is not an id of this listing"


def no_such_cursor() -> InvalidRequest:
    return InvalidRequest(WRONG_CURSOR, param="after")


def _one(row: RowMapping | None) -> Endpoint:
    if row is None:
        raise no_such_endpoint()
    return Endpoint.from_row(row)


_MINE: Final = "id = :id AND owner_id = :owner_id AND deleted_at IS NULL"
_REGISTERED: Final = f"{_MINE} AND url IS NOT NULL"

_BY_ID: Final = text(f"SELECT * FROM webhook_endpoints WHERE {_REGISTERED}")  # noqa: S608 (constants)
_DEFAULT: Final = text(
    "SELECT * FROM webhook_endpoints WHERE owner_id = :owner_id AND url IS NULL"
)

_REGISTER: Final = text("""
INSERT INTO webhook_endpoints (id, owner_id, name, url, event_types, secret)
SELECT :id, :owner_id, :name, :url, CAST(:event_types AS text[]), :secret
WHERE :most > (SELECT count(*) FROM webhook_endpoints
               WHERE owner_id = :owner_id AND url IS NOT NULL AND deleted_at IS NULL)
RETURNING *
""")

_NEWEST, _OLDEST = (
    text(f"""
SELECT * FROM webhook_endpoints
WHERE owner_id = :owner_id AND url IS NOT NULL AND deleted_at IS NULL
  AND (CAST(:after AS uuid) IS NULL OR id {comes} CAST(:after AS uuid))
ORDER BY id {order} LIMIT :limit
""")  # noqa: S608 (only constants)
    for comes, order in (("<", "DESC"), (">", "ASC"))
)

_UPDATE: Final = text(f"""
UPDATE webhook_endpoints SET
    name = coalesce(:name, name), url = coalesce(:url, url),
    event_types = coalesce(CAST(:event_types AS text[]), event_types),
    updated_at = CASE
        WHEN name <> :name OR url <> :url OR event_types <> CAST(:event_types AS text[])
        THEN clock_timestamp() ELSE updated_at END,
    failing_since = CASE WHEN :enabled OR url <> :url THEN NULL ELSE failing_since END,
    disabled_at = CASE WHEN :enabled THEN NULL
        WHEN NOT :enabled THEN coalesce(disabled_at, clock_timestamp())
        ELSE disabled_at END,
    disabled_reason = CASE WHEN :enabled THEN NULL
        WHEN NOT :enabled THEN coalesce(disabled_reason, 'by its owner')
        ELSE disabled_reason END
WHERE {_REGISTERED} RETURNING *
""")  # noqa: S608 (only constants)

_REDIRECT: Final = text(
    "UPDATE deliveries SET url = :url WHERE endpoint_id = :id AND status = 'pending'"
)

_DELETE: Final = text(
    f"UPDATE webhook_endpoints SET deleted_at = clock_timestamp() WHERE {_REGISTERED} RETURNING *"  # noqa: S608 (only constants)
)

_ROTATE: Final = text(f"""
UPDATE webhook_endpoints SET
    previous_secret = CASE WHEN :keep THEN secret END,
    previous_secret_until = CASE WHEN :keep THEN clock_timestamp() + :overlap END,
    secret = :secret, updated_at = clock_timestamp()
WHERE {_MINE} RETURNING *
""")  # noqa: S608 (only constants)
