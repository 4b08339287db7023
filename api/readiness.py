"""Whether the gateway can accept a job now, part by part."""

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

import redis
from sqlalchemy import text

from api.snapshot import Snapshot
from shared import bell
from shared.db import Database
from shared.errors import AppError
from shared.fleet import Fleet
from shared.storage import Storage

FRESH: Final = timedelta(seconds=1)
PATIENCE: Final = timedelta(seconds=2)
REDIS_SECONDS: Final = 0.3

NEEDED: Final = frozenset({"database", "storage", "engines"})
"""Without Redis jobs are accepted and run all the same, a little later."""


@dataclass(frozen=True)
class Health:
    """One part's answer to "do you work?"."""

    ok: bool
    milliseconds: float
    reason: str | None = None


class Readiness:
    """One check for each part, shared by all who ask about it within a second."""

    def __init__(self, db: Database, fleet: Fleet, storage: Storage, redis_url: str) -> None:
        self._redis = bell.client(redis_url, socket_seconds=REDIS_SECONDS)
        checks: Mapping[str, Callable[[], object]] = {
            "database": lambda: _select_one(db),
            "redis": self._redis.ping,
            "storage": storage.check,
            "engines": lambda: fleet.choose(None),
        }
        self._parts = {
            name: Snapshot(_timed(check), fresh=FRESH, patience=PATIENCE)
            for name, check in checks.items()
        }

    async def parts(self) -> Mapping[str, Health]:
        """Return every part's health, at most a second old and within two."""
        found = await asyncio.gather(*(_health(part) for part in self._parts.values()))
        return dict(zip(self._parts, found, strict=True))

    def close(self) -> None:
        self._redis.close()


async def _health(part: Snapshot[Health]) -> Health:
    try:
        return await part.get()
    except TimeoutError:
        return Health(False, PATIENCE.total_seconds() * 1000, "no answer in time")


def _timed(check: Callable[[], object]) -> Callable[[], Health]:
    def run() -> Health:
        began = time.perf_counter()
        reason = _reason(check)
        return Health(reason is None, round((time.perf_counter() - began) * 1000, 1), reason)

    return run


def _reason(check: Callable[[], object]) -> str | None:
    try:
        check()
    except AppError as error:
        return error.message
    except redis.RedisError:
        return "Redis does not answer; jobs start a second or two later"
    return None


def _select_one(db: Database) -> None:
    with db.read() as connection:
        connection.execute(text("SELECT 1"))
