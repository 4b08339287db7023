"""Builds what one worker process renders with, and closes it again."""

import os
import secrets
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Final

import structlog

from shared.bell import Bell
from shared.db import Database
from shared.engines.registry import EngineRegistry, WorkerInfo
from shared.errors import DatabaseUnavailable
from shared.jobs.checkpoints import Checkpoints
from shared.jobs.preview_store import PreviewStore
from shared.jobs.transitions import Jobs
from shared.settings import Settings
from shared.storage import Storage
from worker.render.ending_elsewhere import EndingElsewhere
from worker.render.failure import end_failed_attempt
from worker.render.finish import Finisher
from worker.render.heartbeat import WorkerHeartbeat
from worker.render.hindrance import Hindrance
from worker.render.lease import Lease, Leases
from worker.render.loaded_engines import LoadedEngines
from worker.render.model_loader import ModelLoader
from worker.supervisor.heartbeat_file import HeartbeatFile
from worker.supervisor.worker_config import WorkerConfig

DATABASE_DEADLINE: Final = timedelta(seconds=10)
POOL_SIZE: Final = 5
MOST_MORE_CONNECTIONS: Final = 10
"""For a process of many jobs, each of which needs a connection for a moment at a time."""

DATABASE_PAUSE_SECONDS: Final = 1.0
STORAGE_READ: Final = timedelta(seconds=60)
# As long as a beat may be late, because a cancel is noticed by a beat.
PREVIEW_SECONDS: Final = 1.0

_log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class RenderContext:
    """All that one worker process renders with, built once.

    `card_bytes` is its card's memory; None without a card, or if it is not known. `places` is how
    many jobs it renders at once.
    """

    name: str
    card_bytes: int | None
    settings: Settings
    heartbeat_file: HeartbeatFile
    jobs: Jobs
    checkpoints: Checkpoints
    registry: EngineRegistry
    storage: Storage
    loaded_engines: LoadedEngines
    model_loader: ModelLoader
    leases: Leases
    finisher: Finisher
    ending_elsewhere: EndingElsewhere
    card: Callable[[str], WorkerInfo]
    places: int = 1
    hindrance: Hindrance = field(default_factory=Hindrance)
    die: Callable[[int], None] = os._exit


def scratch_bytes() -> int | None:
    """Return the free space in the folder where clips are made; None if it is not known."""
    try:
        return shutil.disk_usage(tempfile.gettempdir()).free
    except OSError:
        return None


def open_context(settings: Settings, config: WorkerConfig) -> RenderContext:
    """Build a worker's ports, take back the jobs of its predecessor, and show it to the gateway.

    It waits for the database as long as necessary, because a worker without one can do nothing.
    """
    heartbeat_file = HeartbeatFile(Path(config.heartbeat_path))
    incarnation = secrets.randbits(32)
    name = config.name(incarnation)
    db = _database(settings, config)
    jobs = _jobs(settings, db)
    checkpoints, registry = Checkpoints(db), EngineRegistry(db)
    storage = Storage(settings, read=STORAGE_READ)
    loaded_engines = LoadedEngines(config.engines, settings, device=config.device)
    card = _card(config, loaded_engines)
    _wait_for_database(lambda: registry.offer(loaded_engines.specs))
    _wait_for_database(
        lambda: jobs.give_up_earlier(worker=name, max_attempts=settings.max_attempts)
    )
    heartbeat_file.register_child(os.getpid(), incarnation)
    beat = WorkerHeartbeat(registry, card, heartbeat_file)
    leases = _leases(settings, jobs, heartbeat_file, beat)
    _wait_for_database(lambda: registry.beat(card("ready")))
    threading.Thread(target=loaded_engines.preload, name="preload", daemon=True).start()
    return RenderContext(
        name=name,
        card_bytes=config.vram_bytes or None,
        settings=settings,
        heartbeat_file=heartbeat_file,
        jobs=jobs,
        checkpoints=checkpoints,
        registry=registry,
        storage=storage,
        loaded_engines=loaded_engines,
        model_loader=ModelLoader(loaded_engines),
        leases=leases,
        finisher=_finisher(settings, config, jobs, storage, leases),
        ending_elsewhere=EndingElsewhere(checkpoints, loaded_engines),
        card=card,
        places=config.places,
    )


def _database(settings: Settings, config: WorkerConfig) -> Database:
    return Database(
        settings.database_url.get_secret_value(),
        deadline=DATABASE_DEADLINE,
        pool_size=POOL_SIZE + min(config.places - 1, MOST_MORE_CONNECTIONS),
        name="worker",
    )


def _jobs(settings: Settings, db: Database) -> Jobs:
    return Jobs(
        db,
        Bell(settings.redis_url.get_secret_value()),
        lease=settings.lease,
        first_try=settings.first_try,
        max_running=settings.max_running_per_key,
    )


def _leases(
    settings: Settings, jobs: Jobs, heartbeat_file: HeartbeatFile, also: Callable[[], None]
) -> Leases:
    redis_url = settings.redis_url.get_secret_value()
    return Leases(
        jobs,
        heartbeat_file,
        lease_seconds=settings.lease_seconds,
        also=also,
        previews=PreviewStore(redis_url, socket_seconds=PREVIEW_SECONDS),
    )


def _finisher(
    settings: Settings, config: WorkerConfig, jobs: Jobs, storage: Storage, leases: Leases
) -> Finisher:
    def end(lease: Lease, error: Exception) -> None:
        end_failed_attempt(jobs, storage, lease, error, max_attempts=settings.max_attempts)

    return Finisher(
        jobs,
        storage,
        settle=end,
        release=leases.release,
        places=1 if config.places == 1 else min(config.places, os.cpu_count() or 1),
    )


def close_context(context: RenderContext) -> None:
    """Close in order: the finisher, the leases, and a last report to the gateway."""
    context.finisher.wait()
    context.ending_elsewhere.close()
    context.leases.close()
    try:
        context.registry.beat(context.card("stopped"))
    except DatabaseUnavailable:
        _log.warning("worker_beat_missed")


def _card(config: WorkerConfig, loaded_engines: LoadedEngines) -> Callable[[str], WorkerInfo]:
    def card(state: str) -> WorkerInfo:
        return WorkerInfo(
            name=config.worker,
            host=socket.gethostname(),
            pid=os.getpid(),
            device=config.device,
            device_name=config.device_name,
            vram_bytes=config.vram_bytes,
            engines=loaded_engines.names,
            resident_engine=loaded_engines.on_device,
            state=state,
            model_loads=loaded_engines.loads,
            load_seconds=loaded_engines.load_seconds,
            free_bytes=scratch_bytes(),
            weights=loaded_engines.weights(),
        )

    return card


def _wait_for_database(act: Callable[[], object]) -> None:
    while True:
        try:
            act()
            return
        except DatabaseUnavailable as error:
            _log.warning("waiting_for_database", reason=error.cause)
            time.sleep(DATABASE_PAUSE_SECONDS)
