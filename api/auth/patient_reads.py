"""Reads during authentication: one thread, and a bounded wait for those in line for it."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from api.auth.key_cache import PATIENCE_SECONDS
from shared.errors import DatabaseUnavailable

T = TypeVar("T")


class PatientReads:
    """A frozen database costs one thread and no more: a caller that gives up leaves the line."""

    def __init__(self, *, patience_seconds: float = PATIENCE_SECONDS) -> None:
        self._patience_seconds = patience_seconds
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="door")

    async def run(self, read: Callable[[], T]) -> T:
        """Return the result of a read.

        Raises:
            DatabaseUnavailable: Postgres did not answer in time.
        """
        try:
            async with asyncio.timeout(self._patience_seconds):
                return await asyncio.get_running_loop().run_in_executor(self._thread, read)
        except TimeoutError as error:
            raise DatabaseUnavailable("the caller cannot be looked up now; try again") from error

    def close(self) -> None:
        self._thread.shutdown(cancel_futures=True)
