"""Threads for slow work: a limit for each kind of work, and a smaller one for each owner."""

import asyncio
import threading
from collections import Counter
from uuid import UUID, uuid4

import pytest

from api.concurrency import thread_pools
from api.concurrency.thread_pools import ThreadPool
from shared.errors import Busy

MINE, YOURS = uuid4(), uuid4()


class Slow:
    """Work that goes on until it is released; it counts the calls of each owner."""

    def __init__(self) -> None:
        self.released = threading.Event()
        self.at_work: Counter[UUID] = Counter()

    def begin(self, owner_id: UUID) -> None:
        self.at_work[owner_id] += 1
        assert self.released.wait(30)


async def until(slow: Slow, owner_id: UUID, count: int) -> None:
    async with asyncio.timeout(30):
        while slow.at_work[owner_id] < count:
            await asyncio.sleep(0.005)


def test_one_owners_slow_work_leaves_room_for_anothers() -> None:
    slow = Slow()

    async def scene() -> None:
        lane = ThreadPool(4, each=3)
        mine = [
            asyncio.create_task(lane.run(lambda: slow.begin(MINE), owner_id=MINE))
            for _ in range(10)
        ]
        await until(slow, MINE, 3)
        yours = asyncio.create_task(lane.run(lambda: slow.begin(YOURS), owner_id=YOURS))
        await until(slow, YOURS, 1)
        assert slow.at_work == {MINE: 3, YOURS: 1}
        slow.released.set()
        await asyncio.gather(*mine, yours)
        assert slow.at_work == {MINE: 10, YOURS: 1}

    asyncio.run(scene())


def test_who_waits_too_long_is_refused_and_leaves_the_lane_as_it_was() -> None:
    slow = Slow()

    async def scene() -> None:
        lane = ThreadPool(2, each=1, patience_seconds=0.05)
        mine = asyncio.create_task(lane.run(lambda: slow.begin(MINE), owner_id=MINE))
        await until(slow, MINE, 1)
        with pytest.raises(Busy, match="try again"):
            await lane.run(lambda: slow.begin(MINE), owner_id=MINE)
        slow.released.set()
        await mine
        assert await lane.run(lambda: "done", owner_id=MINE) == "done"

    asyncio.run(scene())


def test_a_lane_may_have_less_patience_than_others() -> None:
    slow = Slow()

    async def scene() -> None:
        lane = ThreadPool(1, patience_seconds=0.05)
        first = asyncio.create_task(lane.run(lambda: slow.begin(MINE), owner_id=MINE))
        await until(slow, MINE, 1)
        async with asyncio.timeout(thread_pools.PATIENCE_SECONDS / 2):
            with pytest.raises(Busy):
                await lane.run(lambda: slow.begin(MINE), owner_id=MINE)
        slow.released.set()
        await first

    asyncio.run(scene())


def test_a_failure_frees_its_thread() -> None:
    async def scene() -> None:
        lane = ThreadPool(1)
        for _ in range(3):
            with pytest.raises(ZeroDivisionError):
                await lane.run(lambda: 1 / 0, owner_id=MINE)
        assert await lane.run(lambda: "done", owner_id=MINE) == "done"

    asyncio.run(scene())
