"""Engines whose jobs wait until an admin resumes them; running jobs continue to their end."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import text

from shared.db import Database

EVERY_ENGINE: Final = ""

NOT_PAUSED: Final = """
    (engine <> ALL (ARRAY(SELECT p.engine FROM pauses p))
     AND NOT EXISTS (SELECT FROM pauses p WHERE p.engine = ''))
"""


@dataclass(frozen=True, kw_only=True)
class Pause:
    """A pause of one engine, or of the whole queue if `engine` is EVERY_ENGINE."""

    engine: str
    reason: str | None
    since: datetime


class Pauses:
    """The pauses as rows: they apply to every process that claims, and outlive all processes."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def all(self) -> list[Pause]:
        """Return every pause, that of the whole queue first."""
        with self._db.autocommit() as connection:
            return [Pause(**row) for row in connection.execute(_ALL).mappings()]

    def pause(self, engine: str, *, reason: str | None) -> None:
        """Keep jobs from starting; a second pause of the same engine changes the reason."""
        with self._db.autocommit() as connection:
            connection.execute(_PAUSE, {"engine": engine, "reason": reason})

    def resume(self, engine: str) -> bool:
        """End a pause, and say whether there was one."""
        with self._db.autocommit() as connection:
            return connection.execute(_RESUME, {"engine": engine}).rowcount > 0


_ALL: Final = text("SELECT engine, reason, since FROM pauses ORDER BY engine")

_PAUSE: Final = text("""
INSERT INTO pauses (engine, reason) VALUES (:engine, :reason)
ON CONFLICT (engine) DO UPDATE SET reason = excluded.reason
""")

_RESUME: Final = text("DELETE FROM pauses WHERE engine = :engine")
