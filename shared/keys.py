"""API keys: drawn here, shown once, kept as a hash that only the whole key matches."""

import hashlib
import hmac
import re
import secrets
import string
from collections.abc import Iterable
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Final, Self
from uuid import UUID

from sqlalchemy import RowMapping, text

from shared.db import Database
from shared.errors import InvalidRequest, KeyNameTaken, NotFound
from shared.job import new_id
from shared.tables import ANONYMOUS

MARK: Final = "sr_"
"""How every key begins, so that a search for leaked ones can find it."""

ALPHABET: Final = string.ascii_letters + string.digits
PREFIX_LETTERS: Final = 12
SECRET_LETTERS: Final = 43
"""256 bits. So much chance needs no slow hash: nobody tries that many."""

ID_PREFIX: Final = "key_"

_KEY: Final = re.compile(
    f"({MARK}[A-Za-z0-9]{{{PREFIX_LETTERS}}})_[A-Za-z0-9]{{{SECRET_LETTERS}}}"
)
_ID: Final = re.compile(f"{ID_PREFIX}([0-9a-f]{{32}})")
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_NOBODY: Final = "0" * 64
"""Compared where no key has the prefix; no text is known that hashes to it."""


@dataclass(frozen=True, kw_only=True)
class ApiKey:
    """A key without its secret; `prefix` is its public part. None is no cap of its own."""

    id: UUID
    name: str
    prefix: str
    is_admin: bool
    max_queued: int | None
    max_running: int | None
    created_at: datetime
    last_used_at: datetime | None
    revoked_at: datetime | None

    @classmethod
    def from_row(cls, row: RowMapping) -> Self:
        return cls(**{field.name: row[field.name] for field in fields(cls)})

    @property
    def public_id(self) -> str:
        return f"{ID_PREFIX}{self.id.hex}"

    @property
    def owner_id(self) -> UUID:
        """Whose jobs it works with: each its own, and every admin the house owner's."""
        return ANONYMOUS if self.is_admin else self.id


class Keyring:
    """Every key there is, revoked ones too, as Postgres had them at one moment."""

    def __init__(self, held: Iterable[tuple[ApiKey, str]]) -> None:
        self._held = {key.prefix: (key, digest) for key, digest in held}

    @property
    def is_empty(self) -> bool:
        return not self._held

    def find(self, given: str) -> ApiKey | None:
        """Return the key with this text, which may be a revoked one."""
        match = _KEY.fullmatch(given)
        key, digest = self._held.get(match[1] if match else "", (None, _NOBODY))
        return key if hmac.compare_digest(hashed(given), digest) else None


class Keys:
    def __init__(self, db: Database) -> None:
        self._db = db

    def create(
        self,
        name: str,
        *,
        is_admin: bool = False,
        max_queued: int | None = None,
        max_running: int | None = None,
    ) -> tuple[ApiKey, str]:
        """Make a key and return it with its text, which nothing can show again.

        Raises:
            InvalidRequest: the name has other letters than names have.
            KeyNameTaken: another key has it, or had it before it was revoked.
        """
        if not _NAME.fullmatch(name):
            raise InvalidRequest(
                "a key's name has 1 to 64 letters, digits, dots, dashes or underscores, and"
                " begins with a letter or a digit",
                param="name",
            )
        prefix = MARK + _draw(PREFIX_LETTERS)
        given = f"{prefix}_{_draw(SECRET_LETTERS)}"
        values = {
            "id": new_id(),
            "name": name,
            "prefix": prefix,
            "digest": hashed(given),
            "is_admin": is_admin,
            "max_queued": max_queued,
            "max_running": max_running,
        }
        with self._db.begin() as connection:
            row = connection.execute(_CREATE, values).mappings().first()
        if row is None:
            raise KeyNameTaken(
                f"there is or was a key named {name}; choose another name, like {name}-2",
                param="name",
            )
        return ApiKey.from_row(row), given

    def all(self) -> list[ApiKey]:
        """Return every key, the oldest first."""
        with self._db.read() as connection:
            return [ApiKey.from_row(row) for row in connection.execute(_ALL).mappings()]

    def ring(self) -> Keyring:
        with self._db.read() as connection:
            rows = connection.execute(_ALL).mappings().all()
        return Keyring((ApiKey.from_row(row), row["key_sha256"]) for row in rows)

    def revoke(self, key_id: UUID) -> ApiKey:
        """End a key for good; a revoked one stays as it is. Its jobs go on.

        Raises:
            NotFound: there is no such key.
        """
        return self._revoke({"id": key_id, "name": None})

    def revoke_named(self, name: str) -> ApiKey:
        """Do as `revoke`, by name."""
        return self._revoke({"id": None, "name": name})

    def note_use(self, key_id: UUID) -> None:
        """Write that the key was used now, unless that is known to the minute."""
        with self._db.read() as connection:
            connection.execute(_NOTE_USE, {"id": key_id})

    def _revoke(self, which: dict[str, object]) -> ApiKey:
        with self._db.begin() as connection:
            row = connection.execute(_REVOKE, which).mappings().first()
        if row is None:
            raise no_such_key()
        return ApiKey.from_row(row)


def hashed(given: str) -> str:
    """Return what is kept of a key: its SHA-256 in hex."""
    return hashlib.sha256(given.encode()).hexdigest()


def parse_key_id(name: str) -> UUID:
    """Return the id inside `key_…`.

    Raises:
        NotFound: it is none; the same answer as for a key that does not exist.
    """
    match = _ID.fullmatch(name)
    if match is None:
        raise no_such_key()
    return UUID(hex=match[1])


def no_such_key() -> NotFound:
    return NotFound("no such key")


def _draw(letters: int) -> str:
    return "".join(secrets.choice(ALPHABET) for _ in range(letters))


_CREATE: Final = text("""
INSERT INTO api_keys (id, name, prefix, key_sha256, is_admin, max_queued, max_running)
VALUES (:id, :name, :prefix, :digest, :is_admin, :max_queued, :max_running)
ON CONFLICT (name) DO NOTHING
RETURNING *
""")

_ALL: Final = text("SELECT * FROM api_keys ORDER BY id")

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
