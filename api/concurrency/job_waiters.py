"""Waiting for jobs to change: one subscription and one coalesced read serve all who wait."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Final
from uuid import UUID

import structlog

from shared.bell import subscribe_to_changes
from shared.jobs.job import Job, no_such_job
from shared.jobs.queries import JobQueries

FLOOR: Final = timedelta(seconds=2)
"""How often every watched job is read again, heard of or not: announcements may be lost."""

LISTEN: Final = timedelta(seconds=0.1)
"""How often the listener looks up from a silent subscription, to see whether it should stop."""

RETRY: Final = timedelta(seconds=1)
"""How soon it tries anew where Redis or Postgres did not answer."""

_log = structlog.get_logger(__name__)


class Watch:
    """One waiter's view of one job: its newest snapshot, and a flag that there is a new one."""

    def __init__(self, job_id: UUID) -> None:
        self.job_id = job_id
        self.loop = asyncio.get_running_loop()
        self.job: Job | None = None
        self.is_over = False
        self._changed = asyncio.Event()

    def deliver(self, job: Job) -> None:
        self.job = job
        self._changed.set()

    def end(self) -> None:
        self.is_over = True
        self._changed.set()

    async def changed(self) -> None:
        """Return at the next snapshot, or when the gateway stops."""
        await self._changed.wait()
        self._changed.clear()


class JobWatcher:
    """Everybody in this process who waits for a job; they hold no thread and no connection.

    One thread listens to Redis, one reads Postgres: what is announced while a read is under
    way is in the next one. Without Redis everybody still hears within `floor`.
    """

    def __init__(self, queries: JobQueries, redis_url: str, *, floor: timedelta = FLOOR) -> None:
        self._queries = queries
        self._redis_url = redis_url
        self._floor = floor
        self._condition = threading.Condition()
        self._watches: dict[UUID, set[Watch]] = {}
        self._due: set[UUID] = set()
        self._floor_at = 0.0
        self._stopped = threading.Event()
        self._threads = (
            threading.Thread(target=self._listen, name="waiting-listen", daemon=True),
            threading.Thread(target=self._read, name="waiting-read", daemon=True),
        )
        for thread in self._threads:
            thread.start()

    async def until(self, job: Job, done: Callable[[Job], bool], *, within: timedelta) -> Job:
        """Return the first snapshot that is `done`, or the newest one when the time is up.

        Raises:
            NotFound: the job was deleted meanwhile.
        """
        newest = job
        with self.watch(job.id) as watch:
            try:
                async with asyncio.timeout(within.total_seconds()):
                    while not done(newest) and not watch.is_over:
                        await watch.changed()
                        newest = watch.job or newest
                        if newest.deleted_at is not None:
                            raise no_such_job()
            except TimeoutError:
                return newest
        return newest

    @contextmanager
    def watch(self, job_id: UUID) -> Iterator[Watch]:
        """Yield a watch that receives the job as it stands, and then every change of it."""
        watch = Watch(job_id)
        with self._condition:
            self._watches.setdefault(job_id, set()).add(watch)
            if self._stopped.is_set():
                watch.end()
            # What was announced before this line was heard by nobody: read it once.
            self._due.add(job_id)
            self._condition.notify()
        try:
            yield watch
        finally:
            with self._condition:
                others = self._watches[job_id]
                others.discard(watch)
                if not others:
                    del self._watches[job_id]

    def __len__(self) -> int:
        """Return how many wait."""
        with self._condition:
            return sum(map(len, self._watches.values()))

    @property
    def is_stopping(self) -> bool:
        return self._stopped.is_set()

    def release(self) -> None:
        """Let everybody answer with what they have: the gateway is about to stop."""
        with self._condition:
            self._stopped.set()
            watches = [watch for same in self._watches.values() for watch in same]
            self._condition.notify()
        for watch in watches:
            watch.loop.call_soon_threadsafe(watch.end)

    def close(self) -> None:
        self.release()
        for thread in self._threads:
            thread.join(timeout=RETRY.total_seconds())

    def _listen(self) -> None:
        is_deaf = False
        while not self._stopped.is_set():
            try:
                for change in subscribe_to_changes(self._redis_url, wait=LISTEN):
                    is_deaf = False
                    if self._stopped.is_set():
                        return
                    if change is not None:
                        self._note(change.job_id)
            except Exception as error:  # The edge of this thread: the floor serves meanwhile.
                if not is_deaf:
                    _log.warning("announcements_lost", reason=type(error).__name__)
                is_deaf = True
                self._stopped.wait(RETRY.total_seconds())

    def _note(self, job_id: UUID) -> None:
        with self._condition:
            if job_id in self._watches:
                self._due.add(job_id)
                self._condition.notify()

    def _read(self) -> None:
        while not self._stopped.is_set():
            job_ids = self._next_due()
            if not job_ids:
                continue
            try:
                self._deliver(self._queries.many(job_ids))
            except Exception as error:  # A reader that died would leave everybody waiting.
                _log.warning(
                    "watch_read_failed", waiters=len(job_ids), reason=type(error).__name__
                )
                self._floor_at = time.monotonic() + RETRY.total_seconds()

    def _next_due(self) -> list[UUID]:
        """Wait for what is announced, or for the floor; return which watched jobs to read."""
        with self._condition:
            if not self._due and not self._stopped.is_set():
                self._condition.wait(max(0.0, self._floor_at - time.monotonic()))
            if time.monotonic() >= self._floor_at:
                self._floor_at = time.monotonic() + self._floor.total_seconds()
                self._due = set(self._watches)
            job_ids = [job_id for job_id in self._due if job_id in self._watches]
            self._due = set()
            return job_ids

    def _deliver(self, jobs: dict[UUID, Job]) -> None:
        with self._condition:
            news = [
                (watch, job) for job in jobs.values() for watch in self._watches.get(job.id, ())
            ]
        for watch, job in news:
            watch.loop.call_soon_threadsafe(watch.deliver, job)
