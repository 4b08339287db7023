"""API keys in Postgres: made, rotated and revoked, and read all at once."""

import re
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

from sqlalchemy import text

from shared.api_keys.key import KEY_ID, ApiKey, ApiKeySet, draw_key, draw_prefix, hashed
from shared.db import Database
from shared.errors import InvalidRequest, KeyNameTaken, KeyRevoked, RotationUnderWay
from shared.ids import new_id
from shared.owners import ANONYMOUS, end_links

MOST_OVERLAP: Final = timedelta(hours=24)
"""How long a rotated key may work beside the new one, at most."""

AT_ONCE: Final = timedelta(0)

LIMITS: Final = (
    "max_queued",
    "max_running",
    "models",
    "is_read_only",
    "daily_seconds",
    "daily_usd",
)

parse_key_id: Final = KEY_ID.parse
no_such_key: Final = KEY_ID.not_found
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class Keys:
    """The keys as rows; each method is one transaction or one statement.

    Rotating or revoking a key also ends the links to its owner's files.
    """

    def __init__(self, db: Database) -> None:
        self._db = db

    def create(
        self,
        name: str,
        *,
        is_admin: bool = False,
        max_queued: int | None = None,
        max_running: int | None = None,
        models: Sequence[str] | None = None,
        is_read_only: bool = False,
        daily_seconds: int | None = None,
        daily_usd: float | None = None,
    ) -> tuple[ApiKey, str]:
        """Make a key and return it with its secret, which no later call can show.

        Args:
            models: the only ones it may use.
            daily_seconds: seconds of clips that it may ask for in a UTC day.
            daily_usd: what it may spend on hosted models in a UTC day; None: the settings' limit.

        Raises:
            InvalidRequest: the name has characters that names may not have.
            KeyNameTaken: another key has the name, or had it before it was revoked.
        """
        _check_name(name)
        _check_limits(is_admin, models, daily_seconds=daily_seconds, daily_usd=daily_usd)
        prefix = draw_prefix()
        given = draw_key(prefix)
        values = {
            "id": new_id(),
            "name": name,
            "prefix": prefix,
            "digest": hashed(given),
            "is_admin": is_admin,
            "max_queued": max_queued,
            "max_running": max_running,
            "models": None if models is None else sorted(set(models)),
            "is_read_only": is_read_only,
            "daily_seconds": daily_seconds,
            "daily_usd": daily_usd,
        }
        with self._db.begin() as connection:
            is_first = connection.execute(_HAS_NONE).scalar_one()
            row = connection.execute(_CREATE, values).mappings().first()
            if is_first and row is not None:
                # From now on nobody is anonymous, so the links of anonymous callers end too.
                end_links(connection, ANONYMOUS)
        if row is None:
            taken = f"there is or was a key named {name}; choose another name, like {name}-2"
            raise KeyNameTaken(taken, param="name")
        return ApiKey.from_row(row), given

    def change(self, key_id: UUID, changes: Mapping[str, Any]) -> ApiKey:
        """Set the named limits; None removes a limit.

        Raises:
            NotFound: there is no such key.
            KeyRevoked: it has ended for good.
            InvalidRequest: as `create`.
        """
        with self._db.begin() as connection:
            row = connection.execute(_LOCK, {"id": key_id, "name": None}).mappings().first()
            if row is None:
                raise no_such_key()
            if row["revoked_at"] is not None:
                raise KeyRevoked(f"the key {row['name']} was revoked, and cannot be changed")
            limits = {name: row[name] for name in LIMITS} | dict(changes)
            _check_limits(
                row["is_admin"],
                limits["models"],
                daily_seconds=limits["daily_seconds"],
                daily_usd=limits["daily_usd"],
            )
            if limits["models"] is not None:
                limits["models"] = sorted(set(limits["models"]))
            changed = connection.execute(_CHANGE, {"id": key_id, **limits}).mappings().one()
        return ApiKey.from_row(changed)

    def all(self) -> list[ApiKey]:
        """Return every key, the oldest first."""
        with self._db.autocommit() as connection:
            return [ApiKey.from_row(row) for row in connection.execute(_ALL).mappings()]

    def load_all(self) -> ApiKeySet:
        with self._db.autocommit() as connection:
            rows = connection.execute(_ALL).mappings().all()
        return ApiKeySet(
            (ApiKey.from_row(row), row["key_sha256"], row["old_sha256"]) for row in rows
        )

    def rotate(self, key_id: UUID, *, overlap: timedelta = AT_ONCE) -> tuple[ApiKey, str]:
        """Give a key a new secret and return both; its jobs, caps and prefix stay.

        Args:
            overlap: how long the old secret works beside the new one, up to MOST_OVERLAP. Without
                it the old secret ends at once, and so does one that an earlier rotation left
                valid.

        Raises:
            NotFound: there is no such key.
            KeyRevoked: it has ended for good.
            RotationUnderWay: two secrets are valid already, and this would make it three.
        """
        return self._rotate({"id": key_id, "name": None}, overlap)

    def rotate_named(self, name: str, *, overlap: timedelta = AT_ONCE) -> tuple[ApiKey, str]:
        """Do as `rotate`, by name."""
        return self._rotate({"id": None, "name": name}, overlap)

    def forget_previous(self) -> None:
        """Delete the hashes of secrets that are no longer valid."""
        with self._db.autocommit() as connection:
            connection.execute(_FORGET_PREVIOUS)

    def revoke(self, key_id: UUID) -> ApiKey:
        """Revoke a key for good; a revoked key stays as it is. Its jobs go on.

        Raises:
            NotFound: there is no such key.
        """
        return self._revoke({"id": key_id, "name": None})

    def revoke_named(self, name: str) -> ApiKey:
        """Do as `revoke`, by name."""
        return self._revoke({"id": None, "name": name})

    def note_use(self, key_id: UUID) -> None:
        """Record that the key was used now, unless this minute is recorded already."""
        with self._db.autocommit() as connection:
            connection.execute(_NOTE_USE, {"id": key_id})

    def _rotate(self, which: dict[str, object], overlap: timedelta) -> tuple[ApiKey, str]:
        if not AT_ONCE <= overlap <= MOST_OVERLAP:
            raise ValueError(f"an overlap lasts from {AT_ONCE} to {MOST_OVERLAP}, not {overlap}")
        with self._db.begin() as connection:
            # Locked, so that of two concurrent rotations the second sees the result of the first.
            row = connection.execute(_LOCK, which).mappings().first()
            if row is None:
                raise no_such_key()
            if row["revoked_at"] is not None:
                raise KeyRevoked("this key was revoked, which is for good; make a new one")
            if overlap and row["old_sha256"] is not None:
                until = row["previous_works_until"]
                raise RotationUnderWay(
                    f"the secret before this one works until {until:%Y-%m-%d %H:%M} UTC; rotate"
                    " after that, or without an overlap, which ends both at once"
                )
            given = draw_key(row["prefix"])
            values = {"id": row["id"], "digest": hashed(given), "overlap": overlap}
            rotated = ApiKey.from_row(connection.execute(_ROTATE, values).mappings().one())
            end_links(connection, rotated.owner_id)
        return rotated, given

    def _revoke(self, which: dict[str, object]) -> ApiKey:
        with self._db.begin() as connection:
            row = connection.execute(_REVOKE, which).mappings().first()
            if row is None:
                raise no_such_key()
            key = ApiKey.from_row(row)
            end_links(connection, key.owner_id)
        return key


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise InvalidRequest(
            "a key's name has 1 to 64 letters, digits, dots, dashes or underscores, and begins"
            " with a letter or a digit",
            param="name",
        )


def _check_limits(is_admin: bool, models: Sequence[str] | None, **daily: float | None) -> None:
    of_one = [name for name, limit in daily.items() if limit is not None]
    if is_admin and of_one:
        raise InvalidRequest(
            f"all admins are one owner, so an admin's key takes no {of_one[0]}",
            param=of_one[0],
        )
    if models is not None and not models:
        raise InvalidRequest(
            "models must name at least one model; without models a key may use all", param="models"
        )


_CREATE: Final = text("""
INSERT INTO api_keys (id, name, prefix, key_sha256, is_admin, max_queued, max_running, models,
                      is_read_only, daily_seconds, daily_usd)
VALUES (:id, :name, :prefix, :digest, :is_admin, :max_queued, :max_running, :models,
        :is_read_only, :daily_seconds, :daily_usd)
ON CONFLICT (name) DO NOTHING
RETURNING *
""")

_CHANGE: Final = text(f"""
UPDATE api_keys SET {", ".join(f"{name} = :{name}" for name in LIMITS)} WHERE id = :id RETURNING *
""")  # noqa: S608 (only constants)
_HAS_NONE: Final = text("SELECT NOT EXISTS (SELECT FROM api_keys)")

_HELD: Final = """
SELECT *, CASE WHEN previous_works_until > clock_timestamp() THEN previous_sha256 END AS old_sha256
FROM api_keys
"""
_ALL: Final = text(f"{_HELD} ORDER BY id")
_LOCK: Final = text(f"{_HELD} WHERE id = :id OR name = :name FOR UPDATE")

_ROTATE: Final = text("""
UPDATE api_keys SET
    key_sha256 = :digest, rotated_at = clock_timestamp(),
    previous_sha256 = CASE WHEN :overlap > interval '0' THEN key_sha256 END,
    previous_works_until = CASE WHEN :overlap > interval '0'
                                THEN clock_timestamp() + :overlap END
WHERE id = :id
RETURNING *
""")

_FORGET_PREVIOUS: Final = text("""
UPDATE api_keys SET previous_sha256 = NULL, previous_works_until = NULL
WHERE previous_works_until <= clock_timestamp()
""")

_REVOKE: Final = text("""
UPDATE api_keys SET revoked_at = coalesce(revoked_at, clock_timestamp())
WHERE id = :id OR name = :name
RETURNING *
""")

_NOTE_USE: Final = text("""
UPDATE api_keys SET last_used_at = clock_timestamp()
WHERE id = :id AND (last_used_at IS NULL
                    OR last_used_at < clock_timestamp() - interval '1 minute')
""")
