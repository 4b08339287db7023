"""Threads for each kind of slow work, so that no kind can take them all."""

import asyncio
import os
from collections.abc import Callable
from typing import Final, TypeVar

import anyio.to_thread

from shared.errors import Busy

PATIENCE_SECONDS: Final = 5.0
"""How long a request waits for a free thread before it is told to come back."""

T = TypeVar("T")


class Lane:
    """A number of threads for one kind of work; who waits too long is refused."""

    def __init__(self, threads: int) -> None:
        self._free = asyncio.Semaphore(threads)
        self._limiter = anyio.CapacityLimiter(threads)

    async def run(self, work: Callable[[], T]) -> T:
        """Return what the work returns.

        Raises:
            Busy: no thread became free in time.
        """
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                await self._free.acquire()
        except TimeoutError as error:
            raise Busy("too many requests of this kind are in the works; try again") from error
        try:
            return await anyio.to_thread.run_sync(work, limiter=self._limiter)
        finally:
            self._free.release()


class Lanes:
    """The lanes of one gateway process.

    `database` has a thread per pooled connection, `decoding` one per core and four at most, since
    a large picture takes a core and some hundred megabytes. `fetching` holds a picture of
    MAX_UPLOAD_BYTES in each thread, for as long as a stranger's server takes.
    """

    def __init__(self, *, connections: int) -> None:
        self.database = Lane(connections)
        self.decoding = Lane(min(4, os.cpu_count() or 2))
        self.storing = Lane(16)
        self.downloads = Lane(32)
        self.lookups = Lane(16)
        self.fetching = Lane(8)
