"""However many ask at once, the first one reads, and all that come meanwhile share a read."""

import asyncio
from collections.abc import Mapping, Sequence

import pytest

from api.concurrency.shared_reads import AT_ONCE, SharedReads
from shared.errors import DatabaseUnavailable


class Server:
    """Answers each read when a test tells it to, with twice each number."""

    def __init__(self) -> None:
        self.reads: list[list[int]] = []
        self.error: Exception | None = None
        self._go = asyncio.Semaphore(0)

    async def read(self, asked: Sequence[int]) -> Mapping[int, int]:
        self.reads.append(sorted(asked))
        await self._go.acquire()
        if self.error is not None and (len(asked) > 1 or asked[0] == 13):
            raise self.error
        return {number: 2 * number for number in asked if number != 404}

    async def answer(self, times: int = 1) -> None:
        for _ in range(times):
            self._go.release()
        await turn()


async def turn() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def asking(server: Server, *numbers: int) -> "list[asyncio.Task[int | None]]":
    reads = SharedReads(server.read)
    tasks = [asyncio.create_task(reads.get(number)) for number in numbers]
    await turn()
    return tasks


def test_all_that_come_during_a_read_share_the_next() -> None:
    async def run() -> None:
        server = Server()
        asked = await asking(server, 1, 2, 3, 2, 404)
        assert server.reads == [[1]]
        await server.answer()
        assert server.reads == [[1], [2, 3, 404]]
        await server.answer()
        assert await asyncio.gather(*asked) == [2, 4, 6, 4, None]

    asyncio.run(run())


def test_who_asks_during_a_read_of_the_same_is_told_what_was_read_after_it() -> None:
    async def run() -> None:
        server = Server()
        first, second = await asking(server, 1, 1)
        await server.answer()
        assert (first.done(), second.done()) == (True, False)
        await server.answer()
        assert await second == 2

    asyncio.run(run())


def test_a_server_that_is_away_is_waited_for_once() -> None:
    async def run() -> None:
        server = Server()
        server.error = DatabaseUnavailable("away")
        asked = await asking(server, 13, 2, 3)
        await server.answer()
        for each in asked:
            with pytest.raises(DatabaseUnavailable):
                await each
        assert server.reads == [[13]]

    asyncio.run(run())


def test_what_cannot_be_read_fails_alone() -> None:
    async def run() -> None:
        server = Server()
        server.error = ValueError("no such status")
        asked = await asking(server, 1, 2, 13, 3)
        await server.answer(5)
        done = await asyncio.gather(*asked, return_exceptions=True)
        assert [done[0], done[1], done[3]] == [2, 4, 6]
        assert isinstance(done[2], ValueError)

    asyncio.run(run())


def test_who_gives_up_ends_it_for_nobody_else() -> None:
    async def run() -> None:
        server = Server()
        first, second, third = await asking(server, 1, 2, 2)
        second.cancel()
        first.cancel()
        await server.answer(2)
        assert await third == 4

    asyncio.run(run())


def test_a_read_has_an_end() -> None:
    async def run() -> None:
        server = Server()
        await asking(server, *range(2 * AT_ONCE))
        await server.answer()
        assert len(server.reads[1]) == AT_ONCE

    asyncio.run(run())
