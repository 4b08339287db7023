"""A text that many ask for at about the same time is written once for all of them."""

import asyncio

from api.concurrency.written_once import SAME_SECONDS, WrittenOnce


class Writer:
    """Writes when a test lets it, and counts the calls."""

    def __init__(self) -> None:
        self.count = 0
        self.may_go = asyncio.Event()

    async def write(self) -> str:
        self.count += 1
        await self.may_go.wait()
        return f"text {self.count}"


def test_all_who_ask_while_it_is_written_get_the_one_text() -> None:
    async def run() -> set[str]:
        texts, writer = WrittenOnce(), Writer()
        asking = [asyncio.ensure_future(texts.get("job", writer.write)) for _ in range(100)]
        await asyncio.sleep(0)
        writer.may_go.set()
        return set(await asyncio.gather(*asking))

    assert asyncio.run(run()) == {"text 1"}


def test_another_name_is_another_text() -> None:
    async def run() -> list[str]:
        texts, writer = WrittenOnce(), Writer()
        writer.may_go.set()
        return [await texts.get(name, writer.write) for name in ("a", "b", "a")]

    assert asyncio.run(run()) == ["text 1", "text 2", "text 1"]


def test_a_text_is_written_anew_once_it_is_old() -> None:
    async def run() -> list[str]:
        texts, writer = WrittenOnce(), Writer()
        writer.may_go.set()
        before = await texts.get("job", writer.write)
        await asyncio.sleep(SAME_SECONDS * 1.1)
        return [before, await texts.get("job", writer.write)]

    assert asyncio.run(run()) == ["text 1", "text 2"]


def test_who_hangs_up_does_not_take_it_from_the_others() -> None:
    async def run() -> str:
        texts, writer = WrittenOnce(), Writer()
        first = asyncio.ensure_future(texts.get("job", writer.write))
        second = asyncio.ensure_future(texts.get("job", writer.write))
        await asyncio.sleep(0)
        first.cancel()
        await asyncio.sleep(0)
        writer.may_go.set()
        return await second

    assert asyncio.run(run()) == "text 1"
