"""`python -m worker.keeper`: four loops that mend what processes leave behind when they die.

Each loop has its own thread and starts every round from Postgres, so replicas are safe and a
crash loses nothing. A loop that falls silent ends the process: whoever runs it starts it anew.
"""

import contextlib
import signal
import sys
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from types import FrameType
from typing import Final

import structlog

from shared.api_keys.store import Keys
from shared.bell import Bell
from shared.crashpoints import crashpoint
from shared.db import Database
from shared.engines.registry import EngineRegistry
from shared.errors import DatabaseUnavailable, StorageUnavailable
from shared.jobs.queries import JobQueries
from shared.jobs.transitions import Jobs
from shared.logs import set_up
from shared.outbound.client import Outbound
from shared.settings import Settings, read_settings
from shared.storage import Storage
from worker.keeper import webhook_sender
from worker.keeper.bells import Ringer
from worker.keeper.expiry import Sweeper
from worker.keeper.orphan_images import OrphanSweeper
from worker.keeper.webhook_sender import WebhookSender

DATABASE_DEADLINE: Final = timedelta(seconds=10)
SILENCE_SECONDS: Final = 120.0
EXPIRE_EVERY_SECONDS: Final = 5.0
DELIVER_CONNECTIONS: Final = 4
DELIVER_WAIT: Final = timedelta(seconds=0.25)

_log = structlog.get_logger(__name__)


class Loop:
    """One round again and again in a thread, and when it last ended."""

    def __init__(
        self, name: str, act: Callable[[], object], *, every: float, stop: threading.Event
    ) -> None:
        self.name = name
        self.ended_at = time.monotonic()
        self._act = act
        self._every = every
        self._stop = stop
        self.thread = threading.Thread(target=self._run, name=name, daemon=True)

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._act()
            except (DatabaseUnavailable, StorageUnavailable) as error:
                _log.warning(
                    "keeper_round_skipped", loop=self.name, code=error.code, reason=error.cause
                )
            except Exception:  # The edge of a keeper loop: the next round starts afresh.
                _log.exception("round_failed", loop=self.name)
            self.ended_at = time.monotonic()
            self._stop.wait(self._every)


def main() -> int:
    settings = read_settings()
    set_up(settings, process="keeper")
    stop = threading.Event()

    def ask_to_stop(number: int, frame: FrameType | None) -> None:
        stop.set()

    signal.signal(signal.SIGTERM, ask_to_stop)
    signal.signal(signal.SIGINT, ask_to_stop)
    with contextlib.ExitStack() as opened:
        return _watch(_loops(settings, stop, opened), stop)


def _loops(settings: Settings, stop: threading.Event, opened: contextlib.ExitStack) -> list[Loop]:
    """Return the four loops, each on a connection of its own."""

    def database(name: str, connections: int = 1) -> Database:
        db = Database(
            settings.database_url.get_secret_value(),
            deadline=DATABASE_DEADLINE,
            pool_size=connections,
            name=f"keeper-{name}",
        )
        return opened.enter_context(contextlib.closing(db))

    bell = opened.enter_context(contextlib.closing(Bell(settings.redis_url.get_secret_value())))
    storage = opened.enter_context(contextlib.closing(Storage(settings)))
    reaping, ringing, sweeping = database("reap"), database("ring"), database("expire")
    jobs = Jobs(reaping, bell, lease=settings.lease)
    ringer = Ringer(
        ringing,
        JobQueries(ringing),
        EngineRegistry(ringing),
        bell,
        max_running=settings.max_running_per_key,
    )
    sweeper = Sweeper(sweeping, storage, settings)
    orphans, keys = OrphanSweeper(sweeping, storage), Keys(sweeping)

    def reap() -> None:
        crashpoint("before_reap")
        for job in jobs.reap(max_attempts=settings.max_attempts):
            crashpoint("lease_reaped")
            _log.warning("lease_ran_out", job=job.public_id, status=job.status)
        for job in jobs.time_out():
            _log.warning("waited_too_long", job=job.public_id)

    def expire() -> None:
        keys.forget_previous()
        sweeper.sweep()
        orphans.sweep()

    tick = settings.keeper_tick_seconds
    deliverer = opened.enter_context(
        contextlib.closing(_deliverer(settings, database("deliver", DELIVER_CONNECTIONS)))
    )
    return [
        Loop("reap", reap, every=tick, stop=stop),
        Loop("ring", ringer.top_up, every=tick, stop=stop),
        Loop("deliver", lambda: deliverer.step(DELIVER_WAIT), every=0, stop=stop),
        Loop("expire", expire, every=EXPIRE_EVERY_SECONDS, stop=stop),
    ]


def _deliverer(settings: Settings, db: Database) -> WebhookSender:
    outbound = Outbound(
        settings.outbound_networks,
        deadline=webhook_sender.DEADLINE,
        max_bytes=webhook_sender.MAX_ANSWER_BYTES,
        closed_ports=settings.own_ports,
    )
    return WebhookSender(
        db,
        outbound,
        delays=settings.webhook_delays,
        base_url=settings.own_url,
    )


def _watch(loops: list[Loop], stop: threading.Event) -> int:
    for loop in loops:
        loop.thread.start()
    _log.info("keeper_ready", loops=[loop.name for loop in loops])
    while not stop.wait(1):
        for loop in loops:
            if time.monotonic() - loop.ended_at > SILENCE_SECONDS:
                _log.error("loop_is_silent", loop=loop.name)
                return 1
    for loop in loops:
        loop.thread.join(timeout=20)
    _log.info("keeper_stopped")
    return 0


if __name__ == "__main__":
    sys.exit(main())
