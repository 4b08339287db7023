"""`python -m worker`: pin one worker to each GPU, keep them running, drain on SIGTERM."""

import contextlib
import os
import sys
import tempfile
import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from types import FrameType
from typing import Final

import structlog

from shared.bell import Bell
from shared.crashpoints import crashpoint
from shared.db import Database
from shared.engines.registry import EngineRegistry
from shared.errors import AppError, DatabaseUnavailable
from shared.jobs.transitions import Jobs
from shared.logs import set_up
from shared.proxies import sparing_own_servers
from shared.settings import Settings, read_settings
from shared.stopping import on_stop
from worker.supervisor.card_watch import CardWatch
from worker.supervisor.gpus import find_gpus
from worker.supervisor.places import find_worker_configs, look_around
from worker.supervisor.supervisor import Supervisor

__all__ = ["find_places", "find_worker_configs", "main"]

find_places = find_worker_configs
"""Operators' scripts use this name."""

ROUND_SECONDS: Final = 0.2
DATABASE_DEADLINE: Final = timedelta(seconds=4)

_log = structlog.get_logger(__name__)


def main(watch_cards: Callable[..., CardWatch] = CardWatch) -> int:
    settings = read_settings()
    set_up(settings, process="supervisor")
    asked_to_stop = threading.Event()

    def stop(number: int, frame: FrameType | None) -> None:
        asked_to_stop.set()

    os.environ.update(sparing_own_servers(os.environ, settings))
    on_stop(stop)
    with tempfile.TemporaryDirectory(prefix="stillreel-slots-") as folder:
        try:
            hall = look_around(settings, Path(folder))
        except AppError as error:
            _log.error("refused_to_start", reason=error.message)
            return 2
        if hall.warning:
            _log.warning("rendering_without_cards", reason=hall.warning)
        for config in hall.lost:
            _log.error("card_lost", worker=config.worker, reason=config.device_name)
        with contextlib.closing(_LostJobReclaimer(settings)) as undertaker:
            cards = watch_cards(
                [*hall.configs, *hall.lost],
                [config.worker for config in hall.lost],
                look=find_gpus,
                registry=EngineRegistry(undertaker.db),
            )
            with contextlib.closing(cards):
                cards.start()
                supervisor = Supervisor(
                    settings,
                    hall.configs,
                    give_up=undertaker.give_up,
                    hand_back=undertaker.hand_back,
                    is_lost=cards.is_lost,
                )
                while not asked_to_stop.wait(ROUND_SECONDS):
                    supervisor.watch()
                supervisor.drain()
    return 0


class _LostJobReclaimer:
    """Takes back the jobs of a dead child; if that fails, its successor does so."""

    def __init__(self, settings: Settings) -> None:
        self._max_attempts = settings.max_attempts
        self.db = Database(
            settings.database_url.get_secret_value(),
            deadline=DATABASE_DEADLINE,
            pool_size=2,  # The second connection shows lost cards, which must not delay anything.
            name="supervisor",
        )
        self._bell = Bell(settings.redis_url.get_secret_value())
        self._jobs = Jobs(self.db, self._bell, lease=settings.lease, first_try=settings.first_try)

    def give_up(self, worker: str) -> None:
        """Queue again the jobs of a child that died, and charge its death."""
        try:
            crashpoint("before_give_up")
            lost = self._jobs.give_up(worker=worker, max_attempts=self._max_attempts)
            crashpoint("given_up")
        except DatabaseUnavailable:
            _log.warning("lease_left_to_run_out", worker=worker)
            return
        for job in lost:
            _log.warning("job_taken_back", worker=worker, job=job.public_id, status=job.status)
            self._bell.ring(job.engine)

    def hand_back(self, worker: str) -> None:
        """Queue again, uncharged, the jobs of a child whose drain was cut short."""
        try:
            held = self._jobs.hand_back_all(worker=worker)
        except DatabaseUnavailable:
            _log.warning("lease_left_to_run_out", worker=worker)
            return
        for job in held:
            _log.warning("job_handed_back", worker=worker, job=job.public_id)
            self._bell.ring(job.engine)

    def close(self) -> None:
        self._bell.close()
        self.db.close()


if __name__ == "__main__":
    sys.exit(main())
