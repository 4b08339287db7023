"""Whether the gateway can accept a job now, part by part."""

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

import redis
import structlog
from sqlalchemy import text

from api.concurrency.cached_read import CachedRead
from shared import bell
from shared.db import Database
from shared.engines.registry import EngineRegistry
from shared.errors import AppError
from shared.storage import Storage

_log = structlog.get_logger(__name__)

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

    def __init__(
        self, db: Database, registry: EngineRegistry, storage: Storage, redis_url: str
    ) -> None:
        self._redis = bell.client(redis_url, socket_seconds=REDIS_SECONDS)
        checks: Mapping[str, Callable[[], object]] = {
            "database": lambda: _select_one(db),
            "redis": self._redis.ping,
            "storage": storage.check,
            "engines": lambda: registry.choose(None),
        }
        self._parts = {
            name: CachedRead(_Check(name, check), fresh=FRESH, patience=PATIENCE)
            for name, check in checks.items()
        }

    async def parts(self) -> Mapping[str, Health]:
        """Return every part's health, at most a second old and within two."""
        found = await asyncio.gather(*(_health(part) for part in self._parts.values()))
        return dict(zip(self._parts, found, strict=True))

    def close(self) -> None:
        self._redis.close()


async def _health(part: CachedRead[Health]) -> Health:
    try:
        return await part.get()
    except TimeoutError:
        return Health(False, PATIENCE.total_seconds() * 1000, "no answer in time")


class _Check:
    """Asks one part; the log gets what its library said, once for each turn of its health."""

    def __init__(self, name: str, ask: Callable[[], object]) -> None:
        self._name = name
        self._ask = ask
        self._was_ok = True

    def __call__(self) -> Health:
        began = time.perf_counter()
        reason = self._reason()
        took = round((time.perf_counter() - began) * 1000, 1)
        if reason is None and not self._was_ok:
            _log.info("dependency_up", part=self._name)
        self._was_ok = reason is None
        return Health(self._was_ok, took, reason)

    def _reason(self) -> str | None:
        try:
            self._ask()
        except AppError as error:
            self._note(error.cause)
            return error.message
        except redis.RedisError as error:
            self._note(str(error))
            return "Redis does not answer; jobs start a second or two later"
        return None

    def _note(self, cause: str) -> None:
        if self._was_ok:
            _log.warning("dependency_down", part=self._name, reason=cause)


def _select_one(db: Database) -> None:
    with db.autocommit() as connection:
        connection.execute(text("SELECT 1"))
