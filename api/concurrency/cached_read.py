"""A value that is costly to read, shared by all callers at about the same time (single flight)."""

import asyncio
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Generic, TypeVar

import anyio.to_thread

T = TypeVar("T")


class CachedRead(Generic[T]):
    """Reads in one thread of its own, at most once per `fresh`, however many callers wait."""

    def __init__(self, read: Callable[[], T], *, fresh: timedelta, patience: timedelta) -> None:
        self._read = read
        self._fresh = fresh.total_seconds()
        self._patience = patience.total_seconds()
        self._thread = anyio.CapacityLimiter(1)
        self._reading: asyncio.Task[T] | None = None
        self._ended_at = 0.0

    async def get(self) -> T:
        """Return the value, or raise the error of the read.

        Raises:
            TimeoutError: the read takes longer than `patience`; it goes on, and the next caller
                waits for the same read.
        """
        if self._reading is None or self._is_stale():
            self._reading = asyncio.create_task(self._run())
            # Without this, the loop logs a failure that nobody waited for.
            self._reading.add_done_callback(lambda task: task.cancelled() or task.exception())
        return await asyncio.wait_for(asyncio.shield(self._reading), self._patience)

    def _is_stale(self) -> bool:
        assert self._reading is not None
        return self._reading.done() and time.monotonic() - self._ended_at > self._fresh

    async def _run(self) -> T:
        try:
            return await anyio.to_thread.run_sync(self._read, limiter=self._thread)
        finally:
            self._ended_at = time.monotonic()
