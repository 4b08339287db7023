"""Threads for each kind of slow work, so that no kind and no owner can take all (bulkheads)."""

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
"""How long a request waits while no thread becomes free, before it gets a 503."""

DATABASE_PATIENCE_SECONDS: Final = 1.5
"""Together with the deadline of the work itself, a frozen Postgres is answered within 5 s."""

DECODING_PATIENCE_SECONDS: Final = LONGEST_SECONDS
"""One slow image takes up to 30 s of a thread, and a body waits for memory behind such images."""

SPOOL_BYTES: Final = 768 * 1024 * 1024
"""The disk for arriving bodies, by the length that they declare; a container's /tmp has 1 GiB."""

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
        """By default an owner may have at most three quarters."""
        self._turns = Turns(
            threads,
            each=max(1, threads * 3 // 4) if each is None else each,
            patience_seconds=patience_seconds,
        )
        self._limiter = anyio.CapacityLimiter(threads)

    async def run(self, work: Callable[[], T], *, owner_id: UUID) -> T:
        """Return the result of the work.

        Raises:
            Busy: no thread became free in time.
        """
        async with self.turn(owner_id) as run:
            result: T = await run(work)
            return result

    @asynccontextmanager
    async def turn(self, owner_id: UUID) -> AsyncIterator[Callable[..., Any]]:
        """Hold one of the threads; the yielded function runs work on it.

        Raises:
            Busy: as `run`.
        """
        async with self._turns.turn(owner_id):
            yield partial(anyio.to_thread.run_sync, limiter=self._limiter)

    def stop(self) -> None:
        """Release the waiting requests."""
        self._turns.stop()


class ThreadPools:
    """The thread pools of one gateway process.

    `database` has a thread for each pooled connection. `decoding` has one for each core, at most
    four, because a large image takes a core and some hundred megabytes. It has one more that no
    owner gets beside its own, so slow images of one owner leave a process for another. `fetching`
    holds an image of MAX_UPLOAD_BYTES in each thread, for as long as a foreign server takes.
    `parsing` reads JSON and forms, a tenth of a second for the largest. `spool` is the disk that
    arriving bodies may fill: a quarter for each owner, because a slow body keeps it for minutes.
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
        """Release all waiting requests, because the gateway is stopping."""
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
