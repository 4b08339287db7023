"""Threads for each kind of slow work, so that no kind can take them all."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final, TypeVar
from uuid import UUID
from weakref import WeakValueDictionary

import anyio.to_thread

from api.concurrency.body_memory import BODY_MEMORY_BYTES, MemoryBudget
from shared.errors import Busy

PATIENCE_SECONDS: Final = 5.0
"""How long a request waits for a free thread before it is told to come back."""

DATABASE_PATIENCE_SECONDS: Final = 1.5
"""With the deadline of what it waits for: a frozen Postgres is answered for within 5 s."""

T = TypeVar("T")


class ThreadPool:
    """A number of threads for one kind of work; who waits too long is refused."""

    def __init__(self, threads: int, *, patience_seconds: float | None = None) -> None:
        """Without a patience of its own the lane has PATIENCE_SECONDS."""
        self._free = asyncio.Semaphore(threads)
        self._limiter = anyio.CapacityLimiter(threads)
        self._patience_seconds = PATIENCE_SECONDS if patience_seconds is None else patience_seconds

    async def run(self, work: Callable[[], T]) -> T:
        """Return what the work returns.

        Raises:
            Busy: no thread became free in time.
        """
        async with _held(self._free, self._patience_seconds):
            return await anyio.to_thread.run_sync(work, limiter=self._limiter)


class SharedThreadPool:
    """A lane of which no owner takes more than a part: one's slow work leaves others room."""

    def __init__(self, threads: int, *, each: int) -> None:
        self._pool = ThreadPool(threads)
        self._each = each
        self._patience_seconds = PATIENCE_SECONDS
        # An owner's part is forgotten with its last request.
        self._parts: WeakValueDictionary[UUID, asyncio.Semaphore] = WeakValueDictionary()

    async def run(self, work: Callable[[], T], *, owner_id: UUID) -> T:
        """Return what the work returns.

        Raises:
            Busy: the owner's part or the lane was full for too long.
        """
        part = self._parts.setdefault(owner_id, asyncio.Semaphore(self._each))
        async with _held(part, self._patience_seconds):
            return await self._pool.run(work)


class ThreadPools:
    """The lanes of one gateway process.

    `database` has a thread per pooled connection, `decoding` one per core and four at most, since
    a large picture takes a core and some hundred megabytes. `fetching` holds a picture of
    MAX_UPLOAD_BYTES in each thread, for as long as a stranger's server takes.
    """

    def __init__(self, *, connections: int) -> None:
        self.database = ThreadPool(connections, patience_seconds=DATABASE_PATIENCE_SECONDS)
        self.decoding = ThreadPool(min(4, os.cpu_count() or 2))
        self.storing = ThreadPool(16)
        self.downloads = ThreadPool(32)
        self.body_memory = MemoryBudget(BODY_MEMORY_BYTES)
        self.lookups = ThreadPool(16)
        self.fetching = SharedThreadPool(8, each=6)


@asynccontextmanager
async def _held(free: asyncio.Semaphore, patience_seconds: float) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(patience_seconds):
            await free.acquire()
    except TimeoutError as error:
        raise Busy("too many requests of this kind are in the works; try again") from error
    try:
        yield
    finally:
        free.release()
