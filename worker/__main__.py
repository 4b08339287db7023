"""`python -m worker`: pin one worker to each GPU, keep them running, drain on SIGTERM."""

import contextlib
import signal
import socket
import sys
import tempfile
import threading
from datetime import timedelta
from pathlib import Path
from types import FrameType
from typing import Final

import structlog

from shared.bell import Bell
from shared.crashpoints import crashpoint
from shared.db import Database
from shared.errors import AppError, DatabaseUnavailable
from shared.jobs.transitions import Jobs
from shared.logs import set_up
from shared.settings import Settings, read_settings
from worker.engines import chosen, find_own
from worker.supervisor.gpus import choose_gpus, find_gpus
from worker.supervisor.supervisor import Supervisor
from worker.supervisor.worker_config import WorkerConfig

ROUND_SECONDS: Final = 0.2
DATABASE_DEADLINE: Final = timedelta(seconds=4)

_log = structlog.get_logger(__name__)


def main() -> int:
    settings = read_settings()
    set_up(settings, process="supervisor")
    asked_to_stop = threading.Event()

    def stop(number: int, frame: FrameType | None) -> None:
        asked_to_stop.set()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    with tempfile.TemporaryDirectory(prefix="stillreel-slots-") as folder:
        try:
            configs = find_worker_configs(settings, Path(folder))
        except AppError as error:
            _log.error("refused_to_start", reason=error.message)
            return 2
        with contextlib.closing(_LostJobReclaimer(settings)) as undertaker:
            supervisor = Supervisor(settings, configs, give_up=undertaker)
            while not asked_to_stop.wait(ROUND_SECONDS):
                supervisor.watch()
            supervisor.drain()
    return 0


def find_worker_configs(settings: Settings, folder: Path) -> list[WorkerConfig]:
    """Return a place per chosen GPU, or CPU_WORKERS places where there is none.

    Raises:
        InvalidRequest: GPUS or ENGINES names what is not there.
    """
    gpus = choose_gpus(settings.gpus, find_gpus() if settings.gpus != "none" else [])
    engines = chosen(settings.engines, has_gpu=bool(gpus))
    find_own(engines)  # Celery would keep a child whose engines are not there, idle for ever.
    identity = settings.worker_id or socket.gethostname()
    if not gpus:
        return [
            WorkerConfig(
                worker=f"{identity}-cpu{index}",
                heartbeat_path=str(folder / f"cpu{index}"),
                device="cpu",
                cuda_visible_devices="",
                device_name=None,
                vram_bytes=None,
                engines=engines,
            )
            for index in range(settings.cpu_workers)
        ]
    return [
        WorkerConfig(
            worker=f"{identity}-gpu{gpu.index}",
            heartbeat_path=str(folder / f"gpu{gpu.index}"),
            device="cuda:0",  # The child sees one card only, so it is always the first.
            cuda_visible_devices=gpu.index,
            device_name=gpu.name,
            vram_bytes=gpu.vram_bytes,
            engines=engines,
        )
        for gpu in gpus
    ]


class _LostJobReclaimer:
    """Takes back what a dead child held; where that fails, its successor does it."""

    def __init__(self, settings: Settings) -> None:
        self._max_attempts = settings.max_attempts
        self._db = Database(
            settings.database_url.get_secret_value(),
            deadline=DATABASE_DEADLINE,
            pool_size=1,
            name="supervisor",
        )
        self._bell = Bell(settings.redis_url.get_secret_value())
        self._jobs = Jobs(self._db, self._bell, lease=settings.lease)

    def __call__(self, worker: str) -> None:
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

    def close(self) -> None:
        self._bell.close()
        self._db.close()


if __name__ == "__main__":
    sys.exit(main())
