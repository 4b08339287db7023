"""`python -m worker.keeper`: the loops that repair what dead processes leave behind.

Each loop has its own thread and starts every round from Postgres. So replicas are safe, a crash
loses nothing, and a loop that fails delays no other. A loop that does nothing for too long ends
the process, and the process is started again.
"""

import contextlib
import sys
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from types import FrameType
from typing import Final

import structlog

from shared.api_keys.sessions import Sessions
from shared.api_keys.store import Keys
from shared.bell import Bell
from shared.crashpoints import crashpoint
from shared.db import Database
from shared.errors import DatabaseUnavailable, StorageUnavailable
from shared.installation_secret import InstallationSecret, Purpose
from shared.jobs.links import Links
from shared.jobs.transitions import Jobs
from shared.logs import set_up
from shared.outbound.client import Outbound
from shared.settings import Settings, read_settings
from shared.stopping import on_stop
from shared.storage import Storage
from shared.tallies import Tallies
from shared.webhooks.headers import HeaderSeal
from worker.keeper import webhook_sender
from worker.keeper.clock_watch import ClockWatch
from worker.keeper.expiry import Sweeper
from worker.keeper.orphan_images import OrphanSweeper
from worker.keeper.purge import BATCH, Purger
from worker.keeper.uploads import UploadSweeper
from worker.keeper.webhook_sender import WebhookSender

DATABASE_DEADLINE: Final = timedelta(seconds=10)
SILENCE_SECONDS: Final = 120.0
EXPIRE_EVERY_SECONDS: Final = 5.0
PURGE_EVERY_SECONDS: Final = 60.0
PURGE_ROUNDS: Final = 20
"""The most batches of one round: a purge of years takes some hours, and delays nothing."""
DELIVER_CONNECTIONS: Final = 4
DELIVER_WAIT: Final = timedelta(seconds=0.25)

_log = structlog.get_logger(__name__)


FIRST_PAUSE_SECONDS: Final = 1.0
MOST_PAUSE_SECONDS: Final = 5.0
"""The longest pause after a failed round; each next pause is twice as long."""


class Loop:
    """Runs one round again and again in a thread, and notes when the last one ended."""

    def __init__(
        self,
        name: str,
        act: Callable[[], object],
        *,
        every: float,
        stop: threading.Event,
        first_pause: float = FIRST_PAUSE_SECONDS,
        most_pause: float = MOST_PAUSE_SECONDS,
    ) -> None:
        self.name = name
        self.ended_at = time.monotonic()
        self._act = act
        self._every = every
        self._first_pause = first_pause
        self._most_pause = most_pause
        self._stop = stop
        self.thread = threading.Thread(target=self._run, name=name, daemon=True)

    def _run(self) -> None:
        missed = 0
        while not self._stop.is_set():
            if self._did_a_round():
                if missed:
                    _log.info("rounds_resumed", loop=self.name, missed=missed)
                missed, pause = 0, self._every
            else:
                pause = min(self._first_pause * 2 ** min(missed, 8), self._most_pause)
                missed, pause = missed + 1, max(pause, self._every)
            self.ended_at = time.monotonic()
            self._stop.wait(pause)

    def _did_a_round(self) -> bool:
        try:
            self._act()
        except (DatabaseUnavailable, StorageUnavailable) as error:
            _log.warning(
                "keeper_round_skipped", loop=self.name, code=error.code, reason=error.cause
            )
        except Exception:  # The edge of a keeper loop: the next round starts afresh.
            _log.exception("round_failed", loop=self.name)
        else:
            return True
        return False


def main() -> int:
    settings = read_settings()
    InstallationSecret.of(settings)  # Wrong settings are refused before anything is opened.
    set_up(settings, process="keeper")
    stop = threading.Event()

    def ask_to_stop(number: int, frame: FrameType | None) -> None:
        stop.set()

    on_stop(ask_to_stop)
    with contextlib.ExitStack() as opened:
        return _watch(_loops(settings, stop, opened), stop)


def _loops(settings: Settings, stop: threading.Event, opened: contextlib.ExitStack) -> list[Loop]:
    """Return the loops; each has connections of its own."""

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
    reaping = database("reap")
    jobs = Jobs(reaping, bell, lease=settings.lease, first_try=settings.first_try)

    def reap() -> None:
        crashpoint("before_reap")
        for job in jobs.reap(max_attempts=settings.max_attempts):
            crashpoint("lease_reaped")
            _log.warning("lease_ran_out", job=job.public_id, status=job.status)
        for job in jobs.time_out():
            _log.warning("waited_too_long", job=job.public_id)

    tick = settings.keeper_tick_seconds
    deliverer = opened.enter_context(
        contextlib.closing(_deliverer(settings, database("deliver", DELIVER_CONNECTIONS)))
    )
    return [
        Loop("reap", reap, every=tick, stop=stop),
        Loop("deliver", lambda: deliverer.step(DELIVER_WAIT), every=0, stop=stop),
        *endings(settings, database, storage, stop),
    ]


def endings(
    settings: Settings,
    database: Callable[[str], Database],
    storage: Storage,
    stop: threading.Event,
) -> list[Loop]:
    """Return the loops that remove ended things; nothing waits for them.

    Args:
        database: returns connections of a loop's own, so that no loop waits for another's.
    """
    forgetting, purging = database("forget"), database("purge")
    keys, tallies, purger = Keys(forgetting), Tallies(purging), Purger(purging, settings)
    sessions = Sessions(forgetting, InstallationSecret.of(settings).keys(Purpose.SESSIONS))

    def forget() -> None:
        keys.forget_previous()
        sessions.forget_ended()
        Purger(forgetting, settings).forget_keys()

    def purge() -> None:
        while tallies.count():  # First, because deleted rows cannot be counted any longer.
            pass
        for act in (purger.purge, purger.purge_batches, purger.purge_tests):
            for _ in range(PURGE_ROUNDS):
                if act() < BATCH:
                    break

    often, seldom = EXPIRE_EVERY_SECONDS, PURGE_EVERY_SECONDS
    return [
        Loop("clock", ClockWatch(database("clock"), settings).look, every=often, stop=stop),
        Loop(
            "expire", Sweeper(database("expire"), storage, settings).sweep, every=often, stop=stop
        ),
        Loop("uploads", UploadSweeper(database("uploads"), storage).sweep, every=often, stop=stop),
        Loop("orphans", OrphanSweeper(database("orphans"), storage).sweep, every=often, stop=stop),
        Loop("forget", forget, every=often, stop=stop),
        Loop("blank", Purger(database("blank"), settings).blank, every=often, stop=stop),
        Loop("purge", purge, every=seldom, stop=stop),
    ]


def _deliverer(settings: Settings, db: Database) -> WebhookSender:
    outbound = Outbound(
        settings.outbound_networks,
        deadline=webhook_sender.DEADLINE,
        max_bytes=webhook_sender.MAX_ANSWER_BYTES,
        closed_ports=settings.own_ports,
        inner_ports=settings.inner_ports,
    )
    secret = InstallationSecret.of(settings)
    return WebhookSender(
        db,
        outbound,
        delays=settings.webhook_delays,
        links=Links(secret.keys(Purpose.LINKS), lives=settings.link_lives),
        header_seal=HeaderSeal(secret.keys(Purpose.WEBHOOK_HEADERS)),
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
