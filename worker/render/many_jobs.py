"""Many jobs in one process: a remote render needs a thread here, but no card."""

import threading
from typing import Final

from shared.jobs.job import Job
from worker.render.context import RenderContext
from worker.render.loop import begun, claim, serve

FULL_LOOK_SECONDS: Final = 0.2


class ManyJobs:
    """Renders as many jobs at once as it has places, each in a thread of its own.

    Each has its own lease and ends by itself; a job that waits for an answer delays no other.
    """

    def __init__(self, context: RenderContext, places: int) -> None:
        self._context = context
        self._places = places
        self._free = threading.Semaphore(places)

    def render_next(self) -> bool:
        """Begin the best job; say whether to look again at once."""
        if not self._free.acquire(timeout=FULL_LOOK_SECONDS):
            return True  # All places are taken; the caller asks again unless it must stop.
        is_begun = False
        try:
            job = claim(self._context)
            if job is not None:
                threading.Thread(
                    target=self._serve, args=[job], name=f"render-{job.public_id}"
                ).start()
                is_begun = True
        finally:
            if not is_begun:
                self._free.release()
        return is_begun

    def wait(self) -> None:
        """Return when no place is taken: every job has ended or was handed back."""
        for _ in range(self._places):
            self._free.acquire()

    def _serve(self, job: Job) -> None:
        try:
            with begun(self._context, job) as lease:
                serve(self._context, job, lease)
        finally:
            self._free.release()
