"""Turns at a scarce resource: a share for each owner, order in line, and no turn gets lost."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from uuid import UUID, uuid4

import pytest

from api.concurrency.turns import LINE, Turns
from shared.errors import Busy, Unavailable

MINE, YOURS, THEIRS = uuid4(), uuid4(), uuid4()


class Queue:
    """Takes turns in tasks of its own, and records the order in which they were granted."""

    def __init__(self, line: Turns) -> None:
        self.line = line
        self.granted: list[str] = []
        self._held: dict[str, tuple[UUID, int]] = {}
        self._tasks: list[asyncio.Task[None]] = []

    async def ask(self, name: str, owner_id: UUID, units: int = 1) -> asyncio.Task[None]:
        async def take() -> None:
            taken = await self.line.take(owner_id, units)
            self.granted.append(name)
            self._held[name] = owner_id, taken

        task = asyncio.create_task(take())
        self._tasks.append(task)
        await self.settle()
        return task

    async def end(self, name: str) -> None:
        self.line.give_back(*self._held.pop(name))
        await self.settle()

    async def settle(self) -> None:
        for _ in range(5):
            await asyncio.sleep(0)

    async def end_all(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for name in list(self._held):
            await self.end(name)


@contextlib.asynccontextmanager
async def queue(units: int, each: int) -> AsyncIterator[Queue]:
    """Yield a queue; at its end nothing may be taken, waited for or remembered."""
    line = Turns(units, each=each, patience_seconds=60)
    people = Queue(line)
    try:
        yield people
    finally:
        await people.end_all()
    assert (line.free, line._line, dict(line._held)) == (units, [], {})


def test_an_owner_holds_its_part_and_leaves_the_rest_to_others() -> None:
    async def scene() -> None:
        async with queue(4, each=3) as line:
            for number in range(10):
                await line.ask(f"mine {number}", MINE)
            assert line.granted == ["mine 0", "mine 1", "mine 2"]
            await line.ask("yours", YOURS)
            assert line.granted[-1] == "yours"

    asyncio.run(scene())


def test_who_holds_less_is_next_and_among_equals_who_came_first() -> None:
    async def scene() -> None:
        async with queue(3, each=2) as line:
            for name, owner_id in (("a", MINE), ("b", MINE), ("c", YOURS)):
                await line.ask(name, owner_id)
            for name, owner_id in (("d", MINE), ("e", YOURS), ("f", THEIRS), ("g", THEIRS)):
                await line.ask(name, owner_id)
            await line.end("a")  # Mine has 1, yours 1, theirs nothing.
            assert line.granted[3:] == ["f"]
            await line.end("b")
            assert line.granted[3:] == ["f", "d"]

    asyncio.run(scene())


def test_what_is_large_is_not_passed_by_what_is_small_for_ever() -> None:
    async def scene() -> None:
        async with queue(10, each=10) as line:
            await line.ask("first", MINE, 6)
            await line.ask("large", YOURS, 8)
            await line.ask("small", THEIRS, 1)
            assert line.granted == ["first"]
            await line.end("first")
            assert line.granted == ["first", "large", "small"]

    asyncio.run(scene())


def test_what_is_larger_than_a_part_waits_for_the_whole_part() -> None:
    async def scene() -> None:
        async with queue(10, each=4) as line:
            await line.ask("one", MINE, 1)
            await line.ask("huge", MINE, 99)
            assert line.granted == ["one"]
            await line.end("one")
            assert line.granted == ["one", "huge"]
            assert line.line.free == 6

    asyncio.run(scene())


def test_who_leaves_the_line_lets_those_behind_pass() -> None:
    async def scene() -> None:
        async with queue(10, each=10) as line:
            await line.ask("first", MINE, 6)
            large = await line.ask("large", YOURS, 8)
            await line.ask("small", THEIRS, 1)
            large.cancel()
            await line.settle()
            assert line.granted == ["first", "small"]

    asyncio.run(scene())


def test_who_is_gone_when_called_up_gives_the_turn_on() -> None:
    async def scene() -> None:
        async with queue(1, each=1) as line:
            await line.ask("first", MINE)
            gone = await line.ask("gone", YOURS)
            await line.ask("next", THEIRS)
            line.line.give_back(*line._held.pop("first"))
            gone.cancel()  # It is granted already, but not told yet.
            await line.settle()
            assert line.granted == ["first", "next"]

    asyncio.run(scene())


def test_a_line_that_does_not_move_is_left_and_one_that_moves_is_not() -> None:
    async def scene() -> None:
        line = Turns(1, each=1, patience_seconds=0.2)
        await line.take(MINE)
        with pytest.raises(Busy, match="try again"):
            await line.take(YOURS)
        ahead = [asyncio.create_task(line.take(MINE)) for _ in range(5)]
        waiting = asyncio.create_task(line.take(MINE))
        for each in ahead:  # Half a second in all, but no wait is longer than the patience.
            await asyncio.sleep(0.1)
            line.give_back(MINE, 1)
            await each
        line.give_back(MINE, 1)
        assert await waiting == 1

    asyncio.run(scene())


def test_no_line_is_waited_in_for_ever() -> None:
    async def scene() -> None:
        line = Turns(2, each=1, patience_seconds=60, longest_seconds=0.3)
        await line.take(MINE)
        waiting = asyncio.create_task(line.take(MINE))
        while not waiting.done():
            async with line.turn(YOURS):  # It moves for others.
                await asyncio.sleep(0.01)
        with pytest.raises(Busy):
            await waiting

    asyncio.run(scene())


def test_a_line_is_bounded_for_each_owner() -> None:
    async def scene() -> None:
        async with queue(2, each=1) as line:
            await line.ask("first", MINE)
            for number in range(LINE):
                await line.ask(f"{number}", MINE)
            refused = await line.ask("one too many", MINE)
            with pytest.raises(Busy, match=f"{LINE} of your requests"):
                await refused
            await line.ask("yours", YOURS)
            assert line.granted == ["first", "yours"]

    asyncio.run(scene())


def test_who_waits_when_the_gateway_stops_is_told_at_once() -> None:
    async def scene() -> None:
        async with queue(1, each=1) as line:
            await line.ask("first", MINE)
            waiting = await line.ask("second", YOURS)
            line.line.stop()
            for refused in (waiting, await line.ask("third", YOURS)):
                with pytest.raises(Unavailable, match="stopping"):
                    await refused
            assert line.granted == ["first"]

    asyncio.run(scene())


def test_owners_who_left_are_not_remembered() -> None:
    async def scene() -> None:
        async with queue(2, each=1) as line:
            for _ in range(50):
                async with line.line.turn(uuid4()):
                    pass

    asyncio.run(scene())
