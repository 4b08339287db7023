"""A model is loaded by a thread of its own, while the worker renders what needs no device."""

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
    """A claimed job whose model is being loaded, or is in memory by now."""

    job: Job
    lease: Lease
    began_at: float
    model: Future[VideoEngine]


class ModelLoader:
    """Loads for one job at a time, for there is one device.

    Only the render loop calls it: a job that waits here is rendered by that thread, when its
    model is in memory and the job before it is rendered.
    """

    def __init__(self, engines: LoadedEngines) -> None:
        self._engines = engines
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="load")
        self._waiting: WaitingJob | None = None

    @property
    def is_busy(self) -> bool:
        return self._waiting is not None

    def begin(self, job: Job, lease: Lease, on_ended: Callable[[], None]) -> None:
        """Load the job's model; `on_ended` is called from another thread, however it ended."""
        lease.begin_beside_renders()
        model: Future[VideoEngine] = Future()
        try:
            load = partial(self._engines.use, job.engine, lease.on_load, lease.on_compile)
            model = self._pool.submit(contextvars.copy_context().run, load)
        except RuntimeError as error:  # The process has too many threads: the job is settled.
            model.set_exception(error)
        self._waiting = WaitingJob(job, lease, time.monotonic(), model)
        model.add_done_callback(lambda _: on_ended())

    def take(self, *, wait: bool = False) -> WaitingJob | None:
        """Return the job whose load has ended, once; `wait` for one that has not."""
        waiting = self._waiting
        if waiting is None or not (wait or waiting.model.done()):
            return None
        waiting.model.exception()  # Raised when the job is rendered, where jobs are settled.
        waiting.lease.end_beside_renders(time.monotonic() - waiting.began_at)
        self._waiting = None
        return waiting
