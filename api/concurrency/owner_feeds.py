"""Following an owner's jobs: the snapshots that each listener has not received, within bounds."""

import asyncio
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

from shared.jobs.job import Job
from shared.jobs.news import Look
from shared.lifecycle import Status

MOST_NEWS: Final = 1000
"""Changed jobs that a listener may have unread; one with more must reconnect later."""


class Feed:
    """One listener's view of an owner's jobs: the newest snapshot of each that changed.

    It belongs to the loop that made it. `complete_until` is the time up to which every end was in
    what was taken: a listener that reconnects with it misses none.
    """

    def __init__(
        self, owner_id: UUID, complete_until: datetime, *, most_news: int = MOST_NEWS
    ) -> None:
        self.owner_id = owner_id
        self.complete_until = complete_until
        self.loop = asyncio.get_running_loop()
        self._most_news = most_news
        self.is_over = False
        self.is_behind = False
        self._news: dict[UUID, Job] = {}
        self._changed = asyncio.Event()

    def deliver(self, jobs: Sequence[Job]) -> None:
        """Keep the newest snapshot of each job; disconnect a listener that is too far behind."""
        self._news |= {job.id: job for job in jobs}
        if len(self._news) > self._most_news:
            self._news.clear()
            self.is_behind = True
        self._changed.set()

    def advance(self, complete_until: datetime) -> None:
        """Note that everything up to that time was delivered."""
        self.complete_until = max(self.complete_until, complete_until)

    def end(self) -> None:
        self.is_over = True
        self._changed.set()

    async def changed(self) -> None:
        """Return when there is something to take, or the listening has ended."""
        await self._changed.wait()
        self._changed.clear()

    def take(self) -> list[Job]:
        """Return what arrived since the last call."""
        news, self._news = list(self._news.values()), {}
        return news


class OwnerFeeds:
    """The feeds of one process, and the time up to which each owner's changes were read.

    An owner's jobs are read once, however many listen. This class is not thread-safe.
    """

    def __init__(self) -> None:
        self._feeds: dict[UUID, set[Feed]] = {}
        self._since: dict[UUID, datetime] = {}
        self._seen: dict[UUID, dict[UUID, Job]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._feeds.values()))

    def __iter__(self) -> Iterator[Feed]:
        return iter([feed for same in self._feeds.values() for feed in same])

    def __contains__(self, owner_id: object) -> bool:
        return owner_id in self._feeds

    def add(self, feed: Feed) -> None:
        if feed.owner_id not in self._feeds:
            self._feeds[feed.owner_id] = set()
            self._since[feed.owner_id] = feed.complete_until
            self._seen[feed.owner_id] = {}
        self._feeds[feed.owner_id].add(feed)

    def discard(self, feed: Feed) -> None:
        same = self._feeds[feed.owner_id]
        same.discard(feed)
        if not same:
            for table in (self._feeds, self._since, self._seen):
                del table[feed.owner_id]

    def since(self) -> Mapping[UUID, datetime]:
        """Return the time from which each owner's changes must be looked for."""
        return dict(self._since)

    def to_read(self, look: Look) -> set[UUID]:
        """Return the jobs that a look found newer than they were delivered.

        It also returns jobs that ran when they were last seen and were not found again: they were
        queued again.
        """
        found = {sighting.job_id for sighting in look.sightings}
        return {
            sighting.job_id
            for sighting in look.sightings
            if sighting.owner_id in self._seen
            and self._version(sighting.owner_id, sighting.job_id) < sighting.version
        } | {
            job.id
            for seen in self._seen.values()
            for job in seen.values()
            if job.status is Status.RUNNING and job.id not in found
        }

    def news(self, jobs: Iterable[Job]) -> list[tuple[Feed, list[Job]]]:
        """Return what each feed has not received, and remember that it has now."""
        fresh: dict[UUID, list[Job]] = {}
        for job in jobs:
            if job.owner_id in self._feeds and self._version(job.owner_id, job.id) < job.version:
                self._seen[job.owner_id][job.id] = job
                fresh.setdefault(job.owner_id, []).append(job)
        return [(feed, new) for owner, new in fresh.items() for feed in self._feeds[owner]]

    def advance(self, look: Look, asked: Mapping[UUID, datetime]) -> list[Feed]:
        """Note that all results of a look were delivered; return the feeds that may be told."""
        found = {sighting.job_id for sighting in look.sightings}
        owners = [owner for owner in asked if owner in self._feeds]
        for owner in owners:
            self._since[owner] = look.complete_until
            seen = self._seen[owner]
            self._seen[owner] = {id_: job for id_, job in seen.items() if id_ in found}
        return [feed for owner in owners for feed in self._feeds[owner]]

    def _version(self, owner_id: UUID, job_id: UUID) -> int:
        seen = self._seen[owner_id].get(job_id)
        return 0 if seen is None else seen.version
