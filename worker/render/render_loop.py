"""The render loop of a child: a bell or its own timer wakes it, and a drain waits for it."""

import random
import signal
import threading
import time
from typing import Final

import structlog

from worker.render.context import RenderContext, close_context
from worker.render.loop import render_loaded, render_next
from worker.render.many_jobs import ManyJobs

LOOK_SECONDS: Final = (0.8, 1.6)
"""How long an idle worker waits for a bell before it looks at the table by itself.

A new random time is drawn each time, so that workers that started together do not ask together.
"""

DRAIN_LOOK_SECONDS: Final = 0.2

_log = structlog.get_logger(__name__)


class RenderLoop:
    """Renders job after job, or several at once, as long as the child lives.

    The look at the table starts a job. A bell only makes it earlier, and nothing depends on it:
    Redis may be away, frozen, full or read-only. The loop ends with a drain.
    """

    def __init__(self, context: RenderContext) -> None:
        self._context = context
        self._many = ManyJobs(context, context.places) if context.places > 1 else None
        self._bell = threading.Event()
        self._thread = threading.Thread(target=self._run, name="render", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """Look at the table now."""
        self._bell.set()

    def drain(self) -> None:
        """Finish or hand back the running jobs, and close; it returns when no job is held."""
        heartbeat_file = self._context.heartbeat_file
        if not heartbeat_file.is_draining:  # Celery was stopped, but not by the supervisor.
            heartbeat_file.ask_to_drain(self._context.settings.drain_seconds)
        self.wake()
        self._thread.join()

    def _run(self) -> None:
        # ffmpeg inherits the mask: a signal to all processes at once must not cut a clip short.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        heartbeat_file = self._context.heartbeat_file
        while not heartbeat_file.is_draining:
            self._bell.clear()
            try:
                while not heartbeat_file.is_draining and self._render_next():
                    pass
            except Exception:  # The edge of this thread: the next look starts afresh.
                _log.exception("look_failed")
            self._wait()
        self._end()

    def _render_next(self) -> bool:
        if self._many is not None:
            return self._many.render_next()
        return render_next(self._context, self.wake)

    def _wait(self) -> None:
        """Wait for a bell, the timer or a drain."""
        heartbeat_file = self._context.heartbeat_file
        heartbeat_file.is_idle = True
        ends_at = time.monotonic() + random.uniform(*LOOK_SECONDS)  # noqa: S311 (no secret)
        while not heartbeat_file.is_draining and (left := ends_at - time.monotonic()) > 0:
            if self._bell.wait(min(left, DRAIN_LOOK_SECONDS)):
                break
        heartbeat_file.is_idle = False

    def _end(self) -> None:
        if self._many is not None:
            self._many.wait()
        render_loaded(self._context, wait=True)  # Its lease decides what a drain does with it.
        close_context(self._context)
        self._context.heartbeat_file.is_drained = True
        _log.info("worker_drained")
