"""An API key, and all keys together: which secret belongs to which key."""

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

from sqlalchemy import RowMapping

from shared.ids import PublicId
from shared.owners import ANONYMOUS

MARK: Final = "sr_"
"""The beginning of every key, so that a search for leaked keys can find it."""

ALPHABET: Final = string.ascii_letters + string.digits
PREFIX_LETTERS: Final = 12
SECRET_LETTERS: Final = 43
"""256 bits. With so much randomness a fast hash is enough, because nobody can try so many."""

KEY_ID: Final = PublicId("key_", "no such key")

_KEY: Final = re.compile(
    f"({MARK}[A-Za-z0-9]{{{PREFIX_LETTERS}}})_[A-Za-z0-9]{{{SECRET_LETTERS}}}"
)
_NOBODY: Final = "0" * 64
"""Compared if no key has the prefix; no known text hashes to it."""


@dataclass(frozen=True, kw_only=True)
class ApiKey:
    """A key without its secret. None means no cap of its own, every model, and no daily limit.

    `prefix` is its public part; a rotation does not change it.
    """

    id: UUID
    name: str
    prefix: str
    is_admin: bool
    max_queued: int | None
    max_running: int | None
    models: frozenset[str] | None
    is_read_only: bool
    daily_seconds: int | None
    daily_usd: float | None
    created_at: datetime
    last_used_at: datetime | None
    rotated_at: datetime | None
    previous_works_until: datetime | None
    revoked_at: datetime | None

    @classmethod
    def from_row(cls, row: RowMapping) -> Self:
        values = {field.name: row[field.name] for field in fields(cls)}
        models = values["models"]
        return cls(**values | {"models": None if models is None else frozenset(models)})

    @property
    def public_id(self) -> str:
        return KEY_ID.show(self.id)

    @property
    def owner_id(self) -> UUID:
        """The owner of its jobs: each key is its own owner, and all admins are one owner."""
        return ANONYMOUS if self.is_admin else self.id


@dataclass(frozen=True)
class Match:
    """The key that a secret belongs to; an old secret is one that a rotation has replaced."""

    key: ApiKey
    is_old: bool = False


class ApiKeySet:
    """All keys, also revoked ones, as Postgres had them at one moment."""

    def __init__(self, held: Iterable[tuple[ApiKey, str, str | None]]) -> None:
        """Each key comes with its hash, and the hash before it while that still works."""
        self._held = {
            key.prefix: (key, digest, old_digest or _NOBODY) for key, digest, old_digest in held
        }
        self._by_id = {held[0].id: held for held in self._held.values()}

    @property
    def is_empty(self) -> bool:
        return not self._held

    def match(self, given: str) -> Match | None:
        """Return the key with this secret, which may be a revoked key."""
        match = _KEY.fullmatch(given)
        key, *digests = self._held.get(match[1] if match else "", (None, _NOBODY, _NOBODY))
        # Both are compared in any case, so the time does not show whether a rotation is under way.
        found = hashed(given)
        is_new, is_old = [hmac.compare_digest(found, digest) for digest in digests]
        return Match(key, is_old=is_old) if key is not None and (is_new or is_old) else None

    def digests(self, key_id: UUID) -> tuple[ApiKey, list[str]] | None:
        """Return a valid key, with the hash of each secret that is valid for it now."""
        held = self._by_id.get(key_id)
        if held is None or held[0].revoked_at is not None:
            return None
        return held[0], [digest for digest in held[1:] if digest != _NOBODY]


def draw_prefix() -> str:
    return MARK + _draw(PREFIX_LETTERS)


def draw_key(prefix: str) -> str:
    """Return a new secret for the key with this prefix."""
    return f"{prefix}_{_draw(SECRET_LETTERS)}"


def hashed(given: str) -> str:
    """Return the stored form of a key: its SHA-256 in hex."""
    return hashlib.sha256(given.encode()).hexdigest()


def _draw(letters: int) -> str:
    return "".join(secrets.choice(ALPHABET) for _ in range(letters))
