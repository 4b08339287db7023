"""Waiting for changes of jobs: one subscription and one shared read serve all waiting clients.

A client watches one job (`Watch`) or all jobs of an owner (`Feed`).
"""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Final
from uuid import UUID

import structlog

from api.concurrency.owner_feeds import MOST_NEWS, Feed, OwnerFeeds
from shared.bell import Change, subscribe_to_changes
from shared.jobs.job import Job, no_such_job
from shared.jobs.news import JobNews
from shared.jobs.queries import JobQueries

FLOOR: Final = timedelta(seconds=2)
"""How often every watched job is read again in any case, because announcements may be lost."""

LISTEN: Final = timedelta(seconds=0.1)
"""How often the listener checks a silent subscription for a request to stop."""

RETRY: Final = timedelta(seconds=1)
"""The pause after Redis or Postgres did not answer."""

AT_ONCE: Final = 500
"""Jobs that are read in one statement."""

_log = structlog.get_logger(__name__)


class Watch:
    """One client's view of one job: its newest snapshot, and a flag that there is a new one."""

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


@dataclass(frozen=True)
class _Due:
    """The next read: jobs, and whether it also looks for changes that nobody announced."""

    job_ids: set[UUID]
    is_floor: bool


class JobWatcher:
    """All clients of this process that wait for a job; they hold no thread and no connection.

    One thread listens to Redis, and one reads Postgres. An announcement during a read is handled
    by the next read. Without Redis every client still gets changes within `floor`.
    """

    def __init__(
        self,
        queries: JobQueries,
        news: JobNews,
        redis_url: str,
        *,
        floor: timedelta = FLOOR,
        most_news: int = MOST_NEWS,
    ) -> None:
        self._queries = queries
        self._news = news
        self._redis_url = redis_url
        self._floor = floor
        self._most_news = most_news
        self._condition = threading.Condition()
        self._watches: dict[UUID, set[Watch]] = {}
        self._feeds = OwnerFeeds()
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
        """Yield a watch that receives the job as it is, and then every change of it."""
        watch = Watch(job_id)
        with self._condition:
            self._watches.setdefault(job_id, set()).add(watch)
            if self._stopped.is_set():
                watch.end()
            # Nobody received earlier announcements, so read the job once.
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

    @contextmanager
    def follow(self, owner_id: UUID, complete_until: datetime) -> Iterator[Feed]:
        """Yield a feed that receives every change of the owner's jobs from now on.

        Args:
            complete_until: the caller knows what ended before, or reads it after this.
        """
        feed = Feed(owner_id, complete_until, most_news=self._most_news)
        with self._condition:
            self._feeds.add(feed)
            if self._stopped.is_set():
                feed.end()
        try:
            yield feed
        finally:
            with self._condition:
                self._feeds.discard(feed)

    def __len__(self) -> int:
        """Return the number of waiting clients."""
        with self._condition:
            return sum(map(len, self._watches.values())) + len(self._feeds)

    @property
    def is_stopping(self) -> bool:
        return self._stopped.is_set()

    def release(self) -> None:
        """Let every client answer with what it has, because the gateway is about to stop."""
        with self._condition:
            self._stopped.set()
            waiting = [watch for same in self._watches.values() for watch in same]
            following = list(self._feeds)
            self._condition.notify()
        _call([(watch.loop, watch.end) for watch in waiting])
        _call([(feed.loop, feed.end) for feed in following])

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
                        self._note(change)
            # The edge of this thread; until it works again, the regular reads serve.
            except Exception as error:
                if not is_deaf:
                    _log.warning("announcements_lost", reason=type(error).__name__)
                is_deaf = True
                self._stopped.wait(RETRY.total_seconds())

    def _note(self, change: Change) -> None:
        with self._condition:
            if change.job_id in self._watches or change.owner_id in self._feeds:
                self._due.add(change.job_id)
                self._condition.notify()

    def _read(self) -> None:
        while not self._stopped.is_set():
            due = self._next_due()
            try:
                self._read_jobs(due.job_ids)
                if due.is_floor:
                    self._look_around()
            except Exception as error:  # If the reader died, all clients would wait without end.
                _log.warning("watch_read_failed", waiters=len(self), reason=type(error).__name__)
                self._stopped.wait(RETRY.total_seconds())
                with self._condition:
                    self._due |= due.job_ids
                    self._floor_at = time.monotonic()

    def _next_due(self) -> _Due:
        """Wait for an announcement or for the next regular read; return what to read."""
        with self._condition:
            if not self._due and not self._stopped.is_set():
                self._condition.wait(max(0.0, self._floor_at - time.monotonic()))
            is_floor = time.monotonic() >= self._floor_at
            if is_floor:
                self._floor_at = time.monotonic() + self._floor.total_seconds()
                self._due |= set(self._watches)
            due, self._due = self._due, set()
            return _Due(due, is_floor)

    def _look_around(self) -> None:
        """Read changes that were not announced, for the clients that follow owners."""
        with self._condition:
            since = self._feeds.since()
        if not since:
            return
        look = self._news.look(since)
        with self._condition:
            job_ids = self._feeds.to_read(look)
        self._read_jobs(job_ids)
        with self._condition:
            feeds = self._feeds.advance(look, since)
        _call([(feed.loop, partial(feed.advance, look.complete_until)) for feed in feeds])

    def _read_jobs(self, job_ids: set[UUID]) -> None:
        ids = list(job_ids)
        for first in range(0, len(ids), AT_ONCE):
            self._deliver(list(self._queries.many(ids[first : first + AT_ONCE]).values()))

    def _deliver(self, jobs: Sequence[Job]) -> None:
        with self._condition:
            watched = [(watch, job) for job in jobs for watch in self._watches.get(job.id, ())]
            followed = self._feeds.news(jobs)
        _call([(watch.loop, partial(watch.deliver, job)) for watch, job in watched])
        _call([(feed.loop, partial(feed.deliver, jobs)) for feed, jobs in followed])


def _call(calls: Sequence[tuple[asyncio.AbstractEventLoop, Callable[[], None]]]) -> None:
    """Call each on its loop, in order; a loop is woken once for all of its calls."""
    loops: dict[asyncio.AbstractEventLoop, list[Callable[[], None]]] = {}
    for loop, call in calls:
        loops.setdefault(loop, []).append(call)
    for loop, same in loops.items():
        loop.call_soon_threadsafe(_call_all, same)


def _call_all(calls: Sequence[Callable[[], None]]) -> None:
    for call in calls:
        call()
