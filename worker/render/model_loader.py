"""Loads a model in a thread of its own, while the worker renders jobs that need no device."""

import contextvars
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

from shared.jobs.job import Job
from worker.engines.base import VideoEngine
from worker.render.lease import Lease
from worker.render.loaded_engines import LoadedEngines


@dataclass(frozen=True)
class WaitingJob:
    """A claimed job whose model is being loaded, or is already in memory."""

    job: Job
    lease: Lease
    began_at: float
    model: Future[VideoEngine]


class ModelLoader:
    """Loads for one job at a time, because there is one device.

    Only the render loop calls it: that thread renders the waiting job when its model is in memory
    and the job before it is rendered.
    """

    def __init__(self, engines: LoadedEngines) -> None:
        self._engines = engines
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="load")
        self._waiting: WaitingJob | None = None

    @property
    def is_busy(self) -> bool:
        return self._waiting is not None

    def begin(self, job: Job, lease: Lease, on_ended: Callable[[], None]) -> None:
        """Load the job's model; another thread calls `on_ended`, however the load ends."""
        lease.begin_beside_renders()
        model: Future[VideoEngine] = Future()
        try:
            load = partial(self._engines.use, job.engine, lease.on_load, lease.on_compile)
            model = self._pool.submit(contextvars.copy_context().run, load)
        # The process has too many threads: the error ends the attempt.
        except RuntimeError as error:
            model.set_exception(error)
        self._waiting = WaitingJob(job, lease, time.monotonic(), model)
        model.add_done_callback(lambda _: on_ended())

    def take(self, *, wait: bool = False) -> WaitingJob | None:
        """Return the job whose load has ended, once; with `wait` also wait for a running load."""
        waiting = self._waiting
        if waiting is None or not (wait or waiting.model.done()):
            return None
        # It is raised when the job is rendered, where errors are handled.
        waiting.model.exception()
        waiting.lease.end_beside_renders(time.monotonic() - waiting.began_at)
        self._waiting = None
        return waiting
