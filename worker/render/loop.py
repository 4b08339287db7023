"""One job of a worker: claim, render, hand over to the finisher."""

import io
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from typing import Final

import numpy as np
import PIL.Image
import structlog

from shared.crashpoints import crashpoint
from shared.errors import DatabaseUnavailable, DevicePoisoned
from shared.jobs.inputs import InputKind, keyframe_name
from shared.jobs.job import Job
from shared.jobs.storage_keys import FIRST
from shared.lifecycle import Stage
from shared.storage import Storage
from worker.engines.base import Checkpoint, Image, Notes, RenderRequest, VideoEngine
from worker.render.checkpoint import KeptCheckpoint
from worker.render.clip import Clip
from worker.render.context import RenderContext, scratch_bytes
from worker.render.failure import end_failed_attempt
from worker.render.lease import Lease
from worker.render.storage_retry import READ_SECONDS, retry_storage

POISONED_EXIT: Final = 70

_log = structlog.get_logger(__name__)


def render_next(context: RenderContext, wake: Callable[[], None]) -> bool:
    """Render the best job, or begin to load its model; say whether there was one.

    Args:
        wake: called from another thread when a model is in memory and its job comes next.
    """
    if render_loaded(context):
        return True
    job = claim(context)
    if job is None:
        return False
    with begun(context, job) as lease:
        if context.loaded_engines.is_ready(job.engine):
            serve(context, job, lease)
        else:
            context.model_loader.begin(job, lease, wake)
    return True


@contextmanager
def begun(context: RenderContext, job: Job) -> Iterator[Lease]:
    """Hold a claimed job's lease, which its render releases; name the job in the thread's log."""
    lease = context.leases.hold(job)
    _bind(job)
    try:
        crashpoint("claimed")
        _log.info("job_started", engine=job.engine)
        yield lease
    finally:
        structlog.contextvars.clear_contextvars()


def render_loaded(context: RenderContext, *, wait: bool = False) -> bool:
    """Render the job whose model was loaded for it; say whether there was one.

    Args:
        wait: whether to wait for the end of a running load.
    """
    waiting = context.model_loader.take(wait=wait)
    if waiting is None:
        return False
    _bind(waiting.job)
    try:
        serve(context, waiting.job, waiting.lease, waiting.model)
    finally:
        structlog.contextvars.clear_contextvars()
    return True


def _bind(job: Job) -> None:
    structlog.contextvars.bind_contextvars(
        job=job.public_id, attempt=job.attempt, request_id=job.request_id
    )


def serve(
    context: RenderContext, job: Job, lease: Lease, model: Future[VideoEngine] | None = None
) -> None:
    """Render one claimed job and hand it to the finisher, or end the attempt after an error.

    Args:
        model: the result of its load, if there was one.
    """
    try:
        if model is not None:
            model.result()
        render(context, job, lease)
    except Exception as error:  # The edge of a render: every claimed job gets a transition.
        end_failed_attempt(
            context.jobs,
            context.storage,
            lease,
            error,
            max_attempts=context.settings.max_attempts,
        )
        context.leases.release(lease)
        if isinstance(error, DevicePoisoned):
            _end_process(context)


def render(context: RenderContext, job: Job, lease: Lease) -> None:
    """Run the engine over a job's inputs, and hand the clip to the finisher."""
    engine = context.loaded_engines.use(job.engine, lease.on_load, lease.on_compile)
    crashpoint("loaded")
    lease.enter(Stage.ENCODING_INPUTS)
    request = read_request(context.storage, job, lease, KeptCheckpoint(context.checkpoints, lease))
    clip = Clip(
        job,
        lease,
        engine.plan(request),
        source=request.image,
        ai_generated=engine.spec.ai_generated,
        notes=request.notes,
    )
    try:
        for frames in engine.render(request, lease.on_step):
            clip.write(frames)
        clip.rendered()
        crashpoint("rendered")
        context.finisher.finish(clip)
    except BaseException:
        clip.discard()
        raise


def read_request(
    storage: Storage, job: Job, lease: Lease, checkpoint: Checkpoint
) -> RenderRequest:
    """Return the engine's request for a claimed job.

    Raises:
        StorageFailed, LeaseLost, Stalled, Drained: as `read_image`.
    """
    images = {
        each.name: read_image(storage, each.key, lease)
        for each in job.inputs
        if each.kind is InputKind.IMAGE
    }
    return RenderRequest(
        image=images[FIRST],
        parameters=job.parameters,
        keyframes={frame: images[keyframe_name(frame)] for frame in job.parameters.keyframes},
        job=job.public_id,
        checkpoint=checkpoint,
        notes=Notes(),
        **{name: images[name] for name in job.parameters.given.single},
    )


def read_image(storage: Storage, key: str, lease: Lease) -> Image:
    """Return a normalised image: uint8 RGB, shape (height, width, 3).

    Raises:
        StorageFailed: the storage was away for too long.
        LeaseLost, Stalled, Drained: stop the work.
    """
    body = retry_storage(
        lease,
        lambda: storage.get(key),
        within=READ_SECONDS,
        key=key,
        failure="the image could not be read from the storage",
    )
    with PIL.Image.open(io.BytesIO(body), formats=["PNG"]) as image:
        return np.array(image.convert("RGB"))


def claim(context: RenderContext) -> Job | None:
    """Claim the best job; while a model is being loaded, only of engines that need no device."""
    engines = context.loaded_engines
    honours = engines.honours
    if context.model_loader.is_busy:
        honours = {name: it for name, it in honours.items() if not engines.holds_device(name)}
        if not honours:
            return None
    free = scratch_bytes()
    if free is not None and free < context.settings.min_free_bytes:
        context.hindrance.note("no_room_for_a_clip", free_bytes=free)
        return None
    try:
        job = context.jobs.claim(
            honours,
            worker=context.name,
            card_bytes=context.card_bytes,
            residency=engines.residency,
        )
    except DatabaseUnavailable as error:
        context.hindrance.note("claim_missed", reason=error.cause)
        return None
    context.hindrance.end()
    return job


def _end_process(context: RenderContext) -> None:
    """End a process whose device is unusable: its finisher first; then a new child starts."""
    try:
        context.finisher.wait()
        with suppress(DatabaseUnavailable):
            context.registry.beat(context.card("restarting"))
    finally:
        context.die(POISONED_EXIT)
