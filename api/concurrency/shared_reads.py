"""Reads that are made together: all requests that come during one read share the next one."""

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from typing import Final, Generic, TypeVar

from shared.errors import AppError

AT_ONCE: Final = 200
"""Items in one statement; if there are more, the first ones to come are read first."""

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")


class SharedReads(Generic[K, T]):
    """Belongs to one event loop; makes one read at a time, however many callers there are."""

    def __init__(self, read: Callable[[Sequence[K]], Awaitable[Mapping[K, T]]]) -> None:
        self._read = read
        self._asked: dict[K, asyncio.Future[T | None]] = {}
        self._is_reading = False
        self._rest: asyncio.Task[None] | None = None

    async def get(self, name: K) -> T | None:
        """Return the item as it is after this call; None if there is no such item.

        It waits as long as the read takes, and raises the read's error.
        """
        if not self._is_reading:
            return await self._read_alone(name)
        asked = self._asked.get(name)
        if asked is None:
            asked = self._asked[name] = asyncio.get_running_loop().create_future()
            # Without this, the loop logs a failure that nobody waits for any longer.
            asked.add_done_callback(_look_at)
        # A caller that gives up must not end the read for the others.
        return await asyncio.shield(asked)

    async def _read_alone(self, name: K) -> T | None:
        """Read for the first caller; a task takes over for those that came meanwhile."""
        self._is_reading = True
        try:
            return (await self._read([name])).get(name)
        except AppError as error:
            self._refuse(error)
            raise
        finally:
            self._is_reading = bool(self._asked)
            if self._asked:
                self._rest = asyncio.create_task(self._work_off())

    async def _work_off(self) -> None:
        try:
            while self._asked:
                some = dict(list(self._asked.items())[:AT_ONCE])
                for name in some:
                    del self._asked[name]
                await self._answer(some)
        finally:
            self._is_reading = False

    def _refuse(self, error: AppError) -> None:
        """Give this error to those that wait for the next read too: they have waited as long."""
        asked, self._asked = self._asked, {}
        for one in asked.values():
            if not one.done():
                one.set_exception(error)

    async def _answer(self, asked: Mapping[K, "asyncio.Future[T | None]"]) -> None:
        try:
            found = await self._read(list(asked))
        except Exception as error:
            if len(asked) > 1 and not isinstance(error, AppError):
                # If one row cannot be read, the rows that were asked for with it must not fail.
                for name, one in asked.items():
                    await self._answer({name: one})
                return
            for one in asked.values():
                if not one.done():
                    one.set_exception(error)
            if isinstance(error, AppError):
                self._refuse(error)
            return
        for name, one in asked.items():
            if not one.done():
                one.set_result(found.get(name))


def _look_at(done: "asyncio.Future[T | None]") -> None:
    if not done.cancelled():
        done.exception()
