"""Sessions: what a browser stores in place of an API key, as rows and as tokens.

A token is random and signed, so a guess costs no query of the database. Only its SHA-256 is
stored, with a mark of the exact secret of the key that it was made with: a session works as long
as that secret does.
"""

import base64
import hashlib
import hmac
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from sqlalchemy import text

from shared.db import Database

LIVES: Final = timedelta(days=30)
MOST_OF_A_KEY: Final = 100
"""Live sessions of one key; a new session ends the oldest."""

DRAWN_BYTES: Final = 32
SIGNATURE_BYTES: Final = 16


@dataclass(frozen=True, kw_only=True)
class KeyProof:
    """The hash of a key's secret that a caller has sent; the settings' admin key has no id."""

    key_id: UUID | None
    digest: str


@dataclass(frozen=True, kw_only=True)
class Session:
    """A live session as its row has it."""

    key_id: UUID | None
    key_mark: str
    expires_at: datetime


class Sessions:
    """The sessions as rows; each method is one transaction or one statement."""

    def __init__(
        self, db: Database, keys: Sequence[bytes], *, most_of_a_key: int = MOST_OF_A_KEY
    ) -> None:
        self._db = db
        self._most_of_a_key = most_of_a_key
        self._keys = tuple(keys)

    def begin(self, proof: KeyProof) -> tuple[str, datetime]:
        """Make a session and return its token, which nothing can show again, and its end."""
        drawn = secrets.token_bytes(DRAWN_BYTES)
        token = base64.urlsafe_b64encode(drawn + _signature(self._keys[0], drawn)).decode()
        values = {
            "token": _hashed(token),
            "key_id": proof.key_id,
            "mark": _mark(self._keys[0], proof),
            "lives": LIVES,
            "others": self._most_of_a_key - 1,
        }
        with self._db.begin() as connection:
            connection.execute(_END_OLDEST, values)
            expires_at: datetime = connection.execute(_BEGIN, values).scalar_one()
        return token, expires_at

    def is_ours(self, token: str) -> bool:
        """Say whether we made this token; it may have ended."""
        try:
            whole = base64.urlsafe_b64decode(token.encode("ascii"))
        except ValueError:
            return False
        if base64.urlsafe_b64encode(whole).decode() != token:
            return False  # Of two spellings of one token, only the stored one is ours.
        drawn, signature = whole[:DRAWN_BYTES], whole[DRAWN_BYTES:]
        good = [hmac.compare_digest(signature, _signature(key, drawn)) for key in self._keys]
        return any(good)

    def is_proved_by(self, session: Session, proof: KeyProof) -> bool:
        """Say whether the session was made with this secret of this key."""
        if session.key_id != proof.key_id:
            return False
        good = [hmac.compare_digest(session.key_mark, _mark(key, proof)) for key in self._keys]
        return any(good)

    def find(self, token: str) -> Session | None:
        """Return the live session of a token."""
        with self._db.autocommit() as connection:
            row = connection.execute(_FIND, {"token": _hashed(token)}).mappings().first()
        return None if row is None else Session(**row)

    def end(self, token: str) -> None:
        with self._db.autocommit() as connection:
            connection.execute(_END, {"token": _hashed(token)})

    def forget_ended(self) -> None:
        """Delete the rows of expired sessions."""
        with self._db.autocommit() as connection:
            connection.execute(_FORGET)


def _hashed(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def _signature(key: bytes, drawn: bytes) -> bytes:
    return hmac.digest(key, b"token\n" + drawn, hashlib.sha256)[:SIGNATURE_BYTES]


def _mark(key: bytes, proof: KeyProof) -> str:
    """Return a value that differs between secrets of a key, and does not show their hash."""
    return hmac.digest(key, f"key\n{proof.key_id}\n{proof.digest}".encode(), hashlib.sha256).hex()


_END_OLDEST: Final = text("""
DELETE FROM sessions WHERE token_sha256 IN (
    SELECT token_sha256 FROM sessions WHERE key_id IS NOT DISTINCT FROM CAST(:key_id AS uuid)
    ORDER BY created_at DESC OFFSET :others)
""")

_BEGIN: Final = text("""
INSERT INTO sessions (token_sha256, key_id, key_mark, expires_at)
VALUES (:token, :key_id, :mark, clock_timestamp() + :lives)
RETURNING expires_at
""")

_FIND: Final = text("""
SELECT key_id, key_mark, expires_at FROM sessions
WHERE token_sha256 = :token AND expires_at > clock_timestamp()
""")

_END: Final = text("DELETE FROM sessions WHERE token_sha256 = :token")

_FORGET: Final = text("DELETE FROM sessions WHERE expires_at <= clock_timestamp()")
