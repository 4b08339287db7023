"""Threads for each kind of slow work, so that no kind and no owner can take them all."""

import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Final, TypeVar
from uuid import UUID

import anyio.to_thread

from api.concurrency.body_memory import BODY_MEMORY_BYTES, MemoryBudget
from api.concurrency.turns import LONGEST_SECONDS, Turns

PATIENCE_SECONDS: Final = 5.0
"""How long a request waits while no thread becomes free, before it is told to come back."""

DATABASE_PATIENCE_SECONDS: Final = 1.5
"""With the deadline of what it waits for: a frozen Postgres is answered for within 5 s."""

DECODING_PATIENCE_SECONDS: Final = LONGEST_SECONDS
"""One slow picture takes up to 30 s of a thread; a body waits for memory behind such pictures."""

SPOOL_BYTES: Final = 768 * 1024 * 1024
"""Of bodies that are arriving, by what they declare; a container's /tmp has 1 GiB."""

T = TypeVar("T")


class ThreadPool:
    """A number of threads for one kind of work, in turns between owners."""

    def __init__(
        self,
        threads: int,
        *,
        each: int | None = None,
        patience_seconds: float = PATIENCE_SECONDS,
    ) -> None:
        """By default an owner has three quarters at most."""
        self._turns = Turns(
            threads,
            each=max(1, threads * 3 // 4) if each is None else each,
            patience_seconds=patience_seconds,
        )
        self._limiter = anyio.CapacityLimiter(threads)

    async def run(self, work: Callable[[], T], *, owner_id: UUID) -> T:
        """Return what the work returns.

        Raises:
            Busy: no thread became free in time.
        """
        async with self.turn(owner_id) as run:
            result: T = await run(work)
            return result

    @asynccontextmanager
    async def turn(self, owner_id: UUID) -> AsyncIterator[Callable[..., Any]]:
        """Hold one of the threads; what is yielded runs work on it.

        Raises:
            Busy: as `run`.
        """
        async with self._turns.turn(owner_id):
            yield partial(anyio.to_thread.run_sync, limiter=self._limiter)

    def stop(self) -> None:
        """Let those who wait go."""
        self._turns.stop()


class ThreadPools:
    """The lanes of one gateway process.

    `database` has a thread per pooled connection. `decoding` has one per core and four at most,
    since a large picture takes a core and some hundred megabytes, and one more that no owner gets
    beside those: slow pictures of one leave another's a process. `fetching` holds a picture of
    MAX_UPLOAD_BYTES in each thread, for as long as a stranger's server takes. `parsing` reads JSON
    and forms, a tenth of a second for the largest. `spool` is the disk that arriving bodies may
    fill: a quarter for each owner, since a slow one keeps it for minutes.
    """

    def __init__(
        self,
        *,
        connections: int,
        patience_seconds: float = PATIENCE_SECONDS,
        database_seconds: float = DATABASE_PATIENCE_SECONDS,
    ) -> None:
        cores = min(4, os.cpu_count() or 2)
        pool = partial(ThreadPool, patience_seconds=patience_seconds)
        self.database = ThreadPool(connections, patience_seconds=database_seconds)
        self.decoding = ThreadPool(
            cores + 1, each=cores, patience_seconds=DECODING_PATIENCE_SECONDS
        )
        self.storing = pool(16)
        self.downloads = pool(32)
        self.parsing = pool(4)
        self.lookups = pool(16)
        self.fetching = pool(8)
        self.body_memory = MemoryBudget(BODY_MEMORY_BYTES, each=BODY_MEMORY_BYTES * 3 // 4)
        self.spool = Turns(
            SPOOL_BYTES, each=SPOOL_BYTES // 4, patience_seconds=DECODING_PATIENCE_SECONDS
        )

    def stop(self) -> None:
        """Let everybody go who waits for a turn: the gateway is stopping."""
        for each in (
            self.body_memory.turns,
            self.spool,
            self.database,
            self.parsing,
            self.decoding,
            self.storing,
        ):
            each.stop()
        for pool in (self.downloads, self.lookups, self.fetching):
            pool.stop()
