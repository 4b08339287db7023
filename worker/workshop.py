"""Building what one worker process renders with, and taking it down again."""

import os
import secrets
import socket
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Final

import structlog

from shared.bell import Bell
from shared.db import Database
from shared.errors import DatabaseUnavailable
from shared.fleet import Fleet, WorkerCard
from shared.jobs import Jobs
from shared.settings import Settings
from shared.storage import Storage
from worker.lease import Lease, Leases
from worker.render import Herald, Workshop, scratch_bytes
from worker.resident import Resident
from worker.settle import settle
from worker.slot import Place, Slot
from worker.tail import Tail

DATABASE_DEADLINE: Final = timedelta(seconds=10)
DATABASE_PAUSE_SECONDS: Final = 1.0
STORAGE_READ: Final = timedelta(seconds=60)

_log = structlog.get_logger(__name__)


def open_workshop(settings: Settings, place: Place) -> Workshop:
    """Build a worker's ports, take back what its predecessor held, and show it to the gateway.

    Waits for the database as long as it takes: a worker without one has nothing to do.
    """
    slot = Slot(Path(place.slot_file))
    incarnation = secrets.randbits(32)
    name = place.name(incarnation)
    db = Database(
        settings.database_url.get_secret_value(), deadline=DATABASE_DEADLINE, name="worker"
    )
    jobs = Jobs(
        db,
        Bell(settings.redis_url.get_secret_value()),
        lease=settings.lease,
        first_try=settings.first_try,
        max_running=settings.max_running_per_key,
    )
    fleet = Fleet(db)
    storage = Storage(settings, read=STORAGE_READ)
    resident = Resident(place.engines, settings, device=place.device)
    card = _card(place, resident)
    _wait_for_database(lambda: fleet.offer(resident.specs))
    _wait_for_database(
        lambda: jobs.give_up_earlier(worker=name, max_attempts=settings.max_attempts)
    )
    slot.move_in(os.getpid(), incarnation)
    leases = Leases(
        jobs, slot, lease_seconds=settings.lease_seconds, also=Herald(fleet, card, slot)
    )

    def end(lease: Lease, error: Exception) -> None:
        settle(jobs, storage, lease, error, max_attempts=settings.max_attempts)

    tail = Tail(jobs, storage, settle=end, release=leases.release)
    _wait_for_database(lambda: fleet.beat(card("ready")))
    threading.Thread(target=resident.preload, name="preload", daemon=True).start()
    return Workshop(
        name=name,
        card_bytes=place.vram_bytes or None,
        settings=settings,
        slot=slot,
        jobs=jobs,
        fleet=fleet,
        storage=storage,
        resident=resident,
        leases=leases,
        tail=tail,
        card=card,
    )


def close_workshop(workshop: Workshop) -> None:
    """End in order: the tail, the leases, and a last word to the gateway."""
    workshop.tail.wait()
    workshop.leases.close()
    try:
        workshop.fleet.beat(workshop.card("stopped"))
    except DatabaseUnavailable:
        _log.warning("worker_beat_missed")


def _card(place: Place, resident: Resident) -> Callable[[str], WorkerCard]:
    def card(state: str) -> WorkerCard:
        return WorkerCard(
            name=place.worker,
            host=socket.gethostname(),
            pid=os.getpid(),
            device=place.device,
            device_name=place.device_name,
            vram_bytes=place.vram_bytes,
            engines=resident.names,
            resident_engine=resident.on_device,
            state=state,
            model_loads=resident.loads,
            free_bytes=scratch_bytes(),
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
