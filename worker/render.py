"""One job of a worker: claim, render, hand over to the tail."""

import io
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import PIL.Image
import structlog

from shared.crashpoints import crashpoint
from shared.errors import DatabaseUnavailable, DevicePoisoned
from shared.fleet import Fleet, WorkerCard
from shared.job import Job, input_key
from shared.jobs import Jobs
from shared.lifecycle import Stage
from shared.settings import Settings
from shared.storage import Storage
from worker.engines.base import Image, RenderRequest
from worker.lease import Lease, Leases
from worker.patience import READ_SECONDS, wait_out
from worker.resident import Resident
from worker.settle import settle
from worker.slot import Slot
from worker.tail import Clip, Tail

POISONED_EXIT: Final = 70

_log = structlog.get_logger(__name__)


class Hindrance:
    """What keeps a worker from claiming: logged when it begins and when it ends, not each look."""

    def __init__(self) -> None:
        self._event: str | None = None

    def note(self, event: str, **facts: object) -> None:
        if event != self._event:
            _log.error(event, **facts)
        self._event = event

    def end(self) -> None:
        if self._event is not None:
            _log.info("claims_again", after=self._event)
        self._event = None


@dataclass(frozen=True)
class Workshop:
    """Everything one worker process renders with, built once.

    `card_bytes` is its card's memory; None without a card, or where it is not known.
    """

    name: str
    card_bytes: int | None
    settings: Settings
    slot: Slot
    jobs: Jobs
    fleet: Fleet
    storage: Storage
    resident: Resident
    leases: Leases
    tail: Tail
    card: Callable[[str], WorkerCard]
    hindrance: Hindrance = field(default_factory=Hindrance)
    die: Callable[[int], None] = os._exit


def render_next(workshop: Workshop) -> bool:
    """Render the best job there is; tell whether there was one."""
    job = _claim(workshop)
    if job is None:
        return False
    serve(workshop, job)
    return True


def serve(workshop: Workshop, job: Job) -> None:
    """Render one claimed job and hand it to the tail, or settle what went wrong."""
    structlog.contextvars.bind_contextvars(
        job=job.public_id, attempt=job.attempt, request_id=job.request_id
    )
    lease = workshop.leases.hold(job)
    crashpoint("claimed")
    _log.info("job_started", engine=job.engine)
    try:
        render(workshop, job, lease)
    except Exception as error:  # The edge of a render: every claimed job is settled.
        settle(
            workshop.jobs,
            workshop.storage,
            lease,
            error,
            max_attempts=workshop.settings.max_attempts,
        )
        workshop.leases.release(lease)
        if isinstance(error, DevicePoisoned):
            _end_process(workshop)
    finally:
        structlog.contextvars.clear_contextvars()


def render(workshop: Workshop, job: Job, lease: Lease) -> None:
    """Run the engine over a job's picture, and hand the clip to the tail."""
    engine = workshop.resident.use(job.engine, lease.on_load, lease.on_compile)
    crashpoint("loaded")
    lease.enter(Stage.ENCODING_INPUTS)
    image = read_input(workshop.storage, job, lease)
    request = RenderRequest(image=image, parameters=job.parameters)
    clip = Clip(
        job, lease, engine.plan(request), source=image, ai_generated=engine.spec.ai_generated
    )
    try:
        clip.open()
        for frames in engine.render(request, lease.on_step):
            clip.write(frames)
        clip.rendered()
        crashpoint("rendered")
        workshop.tail.finish(clip)
    except BaseException:
        clip.discard()
        raise


def read_input(storage: Storage, job: Job, lease: Lease) -> Image:
    """Return the normalised picture of a job: uint8 RGB, shape (height, width, 3).

    Raises:
        StorageFailed: the storage stayed away.
        LeaseLost, Stalled, Drained: stop the work.
    """
    key = input_key(job.id)
    body = wait_out(
        lease,
        lambda: storage.get(key),
        within=READ_SECONDS,
        key=key,
        failure="the picture could not be read from the storage",
    )
    with PIL.Image.open(io.BytesIO(body), formats=["PNG"]) as picture:
        return np.array(picture.convert("RGB"))


def scratch_bytes() -> int | None:
    """Return the room in the folder where clips are made, None where it cannot be known."""
    try:
        return shutil.disk_usage(tempfile.gettempdir()).free
    except OSError:
        return None


def _claim(workshop: Workshop) -> Job | None:
    free = scratch_bytes()
    if free is not None and free < workshop.settings.min_free_bytes:
        workshop.hindrance.note("no_room_for_a_clip", free_bytes=free)
        return None
    try:
        job = workshop.jobs.claim(
            workshop.resident.names, worker=workshop.name, card_bytes=workshop.card_bytes
        )
    except DatabaseUnavailable as error:
        workshop.hindrance.note("claim_missed", reason=error.cause)
        return None
    workshop.hindrance.end()
    return job


def _end_process(workshop: Workshop) -> None:
    """Leave a process whose device is unusable; its tail first, then a fresh child comes."""
    try:
        workshop.tail.wait()
        with suppress(DatabaseUnavailable):
            workshop.fleet.beat(workshop.card("restarting"))
    finally:
        workshop.die(POISONED_EXIT)


class Herald:
    """Shows the worker to the gateway every few seconds; called by the lease thread."""

    PERIOD_SECONDS: Final = 5.0

    def __init__(self, fleet: Fleet, card: Callable[[str], WorkerCard], slot: Slot) -> None:
        self._fleet = fleet
        self._card = card
        self._slot = slot
        self._next = 0.0
        self._lock = threading.Lock()

    def __call__(self) -> None:
        with self._lock:
            if time.monotonic() < self._next:
                return
            self._next = time.monotonic() + self.PERIOD_SECONDS
        try:
            self._fleet.beat(self._card("draining" if self._slot.is_draining else "ready"))
        except DatabaseUnavailable:
            _log.warning("worker_beat_missed")
