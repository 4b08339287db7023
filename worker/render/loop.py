"""Answering a bell: claim, render, hand over to the tail, and claim again."""

import io
from typing import Final

import numpy as np
import PIL.Image
import structlog

from shared.crashpoints import crashpoint
from shared.errors import DatabaseUnavailable, DevicePoisoned
from shared.jobs.job import Job
from shared.jobs.storage_keys import input_key
from shared.lifecycle import Stage
from shared.storage import Storage
from worker.engines.base import Image, RenderRequest
from worker.render.clip import Clip
from worker.render.context import Workshop, scratch_bytes
from worker.render.failure import settle
from worker.render.lease import Lease
from worker.render.storage_retry import READ_SECONDS, wait_out

POISONED_EXIT: Final = 70

_log = structlog.get_logger(__name__)


def answer_bell(workshop: Workshop) -> int:
    """Render until neither the queue nor the tail holds a job; return how many were rendered."""
    rendered = 0
    while not workshop.slot.is_draining:
        job = _claim(workshop)
        if job is not None:
            serve(workshop, job)
            rendered += 1
        elif not workshop.tail.wait():
            break
    workshop.tail.wait()
    return rendered


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
    except Exception as error:  # The edge of the task: every claimed job is settled.
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


def _claim(workshop: Workshop) -> Job | None:
    free = scratch_bytes()
    if free is not None and free < workshop.settings.min_free_bytes:
        _log.error("no_room_for_a_clip", free_bytes=free)  # The keeper rings until there is.
        return None
    try:
        return workshop.jobs.claim(
            workshop.resident.names, worker=workshop.name, card_bytes=workshop.card_bytes
        )
    except DatabaseUnavailable:
        _log.warning("claim_missed")  # The keeper rings again when the database is back.
        return None


def _end_process(workshop: Workshop) -> None:
    """Leave a process whose device is unusable; its tail first, then a fresh child comes."""
    workshop.tail.wait()
    workshop.fleet.beat(workshop.card("restarting"))
    workshop.die(POISONED_EXIT)
