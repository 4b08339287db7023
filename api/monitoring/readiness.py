"""Whether the gateway can accept a job now, part by part.

Each check does what a submit needs, and does not only ask for an answer: a Postgres that failed
over still reads, and a store that has just started lists its bucket seconds before it stores an
object.
"""

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
from api.images.confinement import check_confined
from api.monitoring.disk_space import check_disk, check_disk_space
from shared import bell
from shared.db import Database
from shared.engines.registry import EngineRegistry
from shared.errors import AppError, Unavailable, WorkersFull
from shared.jobs.pauses import Pauses
from shared.settings import Settings
from shared.storage import Storage

_log = structlog.get_logger(__name__)

FRESH: Final = timedelta(seconds=1)
PATIENCE: Final = timedelta(seconds=2)
REDIS_SECONDS: Final = 0.3

CARDS: Final = "cards"

NEEDED: Final = frozenset({"database", "storage", "engines", "disk"})
"""Without Redis jobs are still accepted and run, because idle workers look at the table too.
Without a living worker they are accepted and wait for one."""

PROBE_KEY: Final = "probes/readyz"
"""The one object that is written again and again; it is never read."""

EVERYTHING: Final = "*"

REDIS_PROBE: Final = "stillreel:probe"
REDIS_PROBE_SECONDS: Final = 60


@dataclass(frozen=True)
class Health:
    """The result of one check."""

    ok: bool
    milliseconds: float
    reason: str | None = None


class Readiness:
    """One check for each part, shared by all requests within a second."""

    def __init__(
        self,
        db: Database,
        registry: EngineRegistry,
        storage: Storage,
        settings: Settings,
        *,
        fresh: timedelta = FRESH,
        patience: timedelta = PATIENCE,
        redis_seconds: float = REDIS_SECONDS,
    ) -> None:
        self._patience = patience
        redis_url = settings.redis_url.get_secret_value()
        self._redis = bell.client(redis_url, socket_seconds=redis_seconds)
        checks: Mapping[str, Callable[[], object]] = {
            "database": lambda: _write_a_row(db),
            "redis": lambda: _write_a_key(self._redis),
            "storage": lambda: storage.put(PROBE_KEY, b"ready", content_type="text/plain"),
            "engines": lambda: registry.choose(None),
            "decoders": check_confined,
            "workers": lambda: _find_a_worker(registry),
            "disk": lambda: _find_room(registry, settings),
            CARDS: registry.check_cards,
        }
        self._parts = {
            name: CachedRead(_Check(name, check), fresh=fresh, patience=patience)
            for name, check in checks.items()
        }

        pauses = Pauses(db)
        self._paused = CachedRead(lambda: _paused(pauses), fresh=fresh, patience=patience)

    async def parts(self) -> Mapping[str, Health]:
        """Return every part's health, at most a second old, within two seconds.

        The part `cards` is among them only if some cards fell off the bus.
        """
        healths = await asyncio.gather(*(self._health(part) for part in self._parts.values()))
        found = dict(zip(self._parts, healths, strict=True))
        if found[CARDS].ok or not found["database"].ok:
            del found[CARDS]
        return found

    async def paused(self) -> list[str] | None:
        """Return what an admin has paused, `*` for the whole queue; None if it is not known."""
        try:
            return await self._paused.get()
        except (TimeoutError, AppError):
            return None

    def close(self) -> None:
        self._redis.close()

    async def _health(self, part: CachedRead[Health]) -> Health:
        try:
            return await part.get()
        except TimeoutError:
            return Health(False, self._patience.total_seconds() * 1000, "no answer in time")


def _paused(pauses: Pauses) -> list[str]:
    return [pause.engine or EVERYTHING for pause in pauses.all()]


class _Check:
    """Checks one part; the log gets the library's message once for each change of its health."""

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
        except redis.ResponseError as error:
            self._note(str(error))
            return "Redis takes no writes; jobs start within two seconds instead of at once"
        except redis.RedisError as error:
            self._note(str(error))
            return "Redis does not answer; jobs start within two seconds instead of at once"
        return None

    def _note(self, cause: str) -> None:
        if self._was_ok:
            _log.warning("dependency_down", part=self._name, reason=cause)


def _write_a_row(db: Database) -> None:
    """Commit one tiny row; the commit waits for the same replicas as a submit's."""
    with db.autocommit() as connection:
        connection.execute(_WRITE)


def _write_a_key(client: redis.Redis) -> None:
    client.set(REDIS_PROBE, "1", ex=REDIS_PROBE_SECONDS)


def _find_a_worker(registry: EngineRegistry) -> None:
    """Raise Unavailable unless a worker is alive."""
    if registry.live_workers() == 0:
        raise Unavailable("no worker is alive; jobs wait until one starts")


def _find_room(registry: EngineRegistry, settings: Settings) -> None:
    """Raise the error that a submit would get, whichever model it named.

    Raises:
        StorageFull: the disk of this machine's files is nearly full.
        WorkersFull: so is every worker's, for every engine.
    """
    check_disk(settings)
    refusals: list[WorkersFull] = []
    offers = registry.offers()
    for offer in offers:
        try:
            check_disk_space(offer, settings)
        except WorkersFull as error:
            refusals.append(error)
    if refusals and len(refusals) == len(offers):
        raise refusals[0]


_WRITE: Final = text(
    "INSERT INTO probes (name) VALUES ('readyz')"
    " ON CONFLICT (name) DO UPDATE SET at = clock_timestamp()"
)
