"""The events for a listener: one job's snapshots to its end, or those of all the caller's jobs."""

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Final
from uuid import UUID

import structlog
from starlette.types import Scope

from api.auth.caller import Caller
from api.concurrency.owner_feeds import Feed
from api.ports import Ports
from api.responses import event_stream
from api.responses.job import queue_board, view
from shared.errors import AppError, InvalidRequest, Unavailable
from shared.jobs.job import Job
from shared.jobs.news import Mark
from shared.lifecycle import Status

PAGE: Final = 100

MOST_TOLD: Final = 1000
"""Jobs whose versions are remembered, so that the first look does not send them again; more may
come twice."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_MOST_DIGITS: Final = 18

_log = structlog.get_logger(__name__)


class NotAllowed(Exception):
    """The key that opened the stream is no longer valid."""


@dataclass
class Listener:
    """The reader of a stream; every query for it names the caller's owner."""

    ports: Ports
    caller: Caller
    scope: Scope
    base_url: str
    _checked_at: float = field(default_factory=time.monotonic)

    async def pause(self, changed: Callable[[], Awaitable[None]]) -> bool:
        """Wait for a change; return whether it came before a keep-alive is due.

        Raises:
            NotAllowed: the key was revoked.
        """
        silent_seconds = self.ports.limits.silent_seconds
        if time.monotonic() - self._checked_at >= silent_seconds:
            await self._check()
        try:
            async with asyncio.timeout(silent_seconds):
                await changed()
        except TimeoutError:
            return False
        return True

    async def event(self, job: Job, id_: str) -> str:
        """Return a job as an event: its snapshot, or the event of a deleted one."""
        if job.deleted_at is not None:
            body = event_stream.tombstone(job.public_id, job.version)
            return event_stream.event(body, id_=id_, name="deleted")
        # All who listen are told of it at once, and are told the same.
        name = job.id, job.version, job.link_epoch, self.base_url
        snapshot = await self.ports.snapshots.get(name, partial(self._snapshot, job))
        return event_stream.event(snapshot, id_=id_)

    async def _snapshot(self, job: Job) -> str:
        board = await queue_board(self.ports, job)
        return view(self.ports, job, self.base_url, board=board).model_dump_json()

    async def page(self, read: Callable[[], list[Job]]) -> list[Job]:
        return await self.ports.pools.database.run(read, owner_id=self.caller.owner_id)

    async def _check(self) -> None:
        self._checked_at = time.monotonic()
        try:
            caller = await self.ports.authenticator.caller(self.scope)
        except Unavailable:
            return  # The keys cannot be read now; the key was valid before.
        except AppError as error:
            raise NotAllowed from error
        if caller.owner_id != self.caller.owner_id:
            raise NotAllowed


async def follow_job(listener: Listener, job: Job, seen: int | None) -> AsyncGenerator[str, None]:
    """Send the job as it is, unless the listener has seen that; then each change, then `end`.

    Changes while the listener does not read are skipped: the newest snapshot is the event.
    """
    shown = seen if seen is not None and seen <= job.version else 0
    yield event_stream.begin()
    with listener.ports.job_watcher.watch(job.id) as watch:
        while True:
            newest = watch.job if watch.job and watch.job.version > job.version else job
            if newest.version > shown:
                shown = newest.version
                yield await listener.event(newest, str(shown))
            if newest.is_terminal or newest.deleted_at is not None:
                body = event_stream.ending(newest.public_id, newest.status, newest.version)
                yield event_stream.event(body, id_=str(shown), name="end")
                return
            if watch.is_over:
                yield event_stream.farewell()
                return
            try:
                if not await listener.pause(watch.changed):
                    yield event_stream.KEEP_ALIVE
            except NotAllowed:
                return


async def follow_owner(
    listener: Listener, seen: datetime | None, now: datetime
) -> AsyncGenerator[str, None]:
    """Send all live jobs, those that ended since `seen`, and then every change of any job.

    Each event's id is the time up to which no end is missing, so a listener that reconnects with
    the last id misses none. Until all ready events are sent, it is the listener's own id.

    Args:
        seen: the id with which the listener reconnected, None for a new listener.
        now: the time up to which all ends are visible to reads from now on.
    """
    owner_id = listener.caller.owner_id
    since = now if seen is None else min(seen, now)
    yield event_stream.begin()
    with listener.ports.job_watcher.follow(owner_id, now) as feed:
        try:
            told: dict[UUID, int] = {}
            async for job in _as_it_stands(listener, since):
                if len(told) < MOST_TOLD:
                    told[job.id] = job.version
                yield await listener.event(job, stream_id(since))
            async for part in _changes(listener, feed, since, told):
                yield part
        except NotAllowed:
            return
        except Unavailable as error:
            # The listener reconnects with the last id, when the database answers again.
            _log.warning("stream_ended", reason=error.code)
            yield event_stream.farewell()


async def _changes(
    listener: Listener, feed: Feed, sent: datetime, told: dict[UUID, int]
) -> AsyncGenerator[str, None]:
    """Send what changes; `told` are versions that this stream has sent already."""
    while True:
        complete_until = feed.complete_until
        news = [job for job in feed.take() if told.pop(job.id, 0) < job.version]
        for job in news[:-1]:
            yield await listener.event(job, stream_id(sent))
        sent = max(sent, complete_until)
        if news:
            yield await listener.event(news[-1], stream_id(sent))
        else:
            yield event_stream.mark(stream_id(sent))
        if feed.is_over or feed.is_behind:
            yield event_stream.farewell()
            return
        while not await listener.pause(feed.changed):
            sent = max(sent, feed.complete_until)
            yield event_stream.KEEP_ALIVE + event_stream.mark(stream_id(sent))


async def _as_it_stands(listener: Listener, since: datetime) -> AsyncGenerator[Job, None]:
    """Yield the live jobs, and those that ended or were deleted since, page by page."""
    news, owner_id = listener.ports.news, listener.caller.owner_id
    for status in (Status.QUEUED, Status.RUNNING):
        after = None
        while True:
            read = partial(news.live, owner_id, status, after=after, limit=PAGE)
            page = await listener.page(read)
            for job in page:
                yield job
            if len(page) < PAGE:
                break
            after = page[-1].id
    for lookup, when in ((news.ended, _finished_at), (news.deleted, _deleted_at)):
        mark = Mark(since)
        while page := await listener.page(partial(lookup, owner_id, mark, limit=PAGE)):
            for job in page:
                yield job
            mark = Mark(when(page[-1]), page[-1].id)


def _finished_at(job: Job) -> datetime:
    assert job.finished_at is not None
    return job.finished_at


def _deleted_at(job: Job) -> datetime:
    assert job.deleted_at is not None
    return job.deleted_at


def stream_id(complete_until: datetime) -> str:
    """Return the id of an event in the stream of all jobs; clients need not read it."""
    return f"t{(complete_until - _EPOCH) // _MICROSECOND}"


def read_stream_id(text: str) -> datetime:
    """Return the time in one of our ids.

    Raises:
        InvalidRequest: it is not such an id.
    """
    digits = text.removeprefix("t")
    if text[:1] != "t" or not digits.isdecimal() or len(digits) > _MOST_DIGITS:
        raise _no_such_id("send the id of the last event of /v1/events, unchanged")
    try:
        return _EPOCH + int(digits) * _MICROSECOND
    except OverflowError as error:
        raise _no_such_id("send the id of the last event of /v1/events, unchanged") from error


def read_version(text: str) -> int:
    """Return the version in an id of one job's stream.

    Raises:
        InvalidRequest: it is not such an id.
    """
    if not text.isascii() or not text.isdecimal() or len(text) > _MOST_DIGITS:
        raise _no_such_id("send the id of the last event of this job, a whole number")
    return int(text)


def _no_such_id(remedy: str) -> InvalidRequest:
    return InvalidRequest(
        f"Last-Event-ID is not an id of this stream; {remedy}, or leave it out",
        param="Last-Event-ID",
    )
