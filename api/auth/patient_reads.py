"""Reads at the door: one thread, and a bounded wait for whoever stands in line for it."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from api.auth.key_cache import PATIENCE_SECONDS
from shared.errors import DatabaseUnavailable

T = TypeVar("T")


class PatientReads:
    """A frozen database costs one thread and no more: who gives up leaves the line."""

    def __init__(self, *, patience_seconds: float = PATIENCE_SECONDS) -> None:
        self._patience_seconds = patience_seconds
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="door")

    async def run(self, read: Callable[[], T]) -> T:
        """Return what a read returns.

        Raises:
            DatabaseUnavailable: Postgres did not tell in time.
        """
        try:
            async with asyncio.timeout(self._patience_seconds):
                return await asyncio.get_running_loop().run_in_executor(self._thread, read)
        except TimeoutError as error:
            raise DatabaseUnavailable("who is asking cannot be read now; try again") from error

    def close(self) -> None:
        self._thread.shutdown(cancel_futures=True)
