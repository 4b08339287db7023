"""An answer's head is sent together with its body, or at once if no body follows."""

import asyncio
from typing import cast

from api.server.http_protocol import _Exit


class Wire:
    """A transport that records each write."""

    def __init__(self) -> None:
        self.said: list[bytes | str] = []

    def write(self, part: bytes) -> None:
        self.said.append(part)

    def is_closing(self) -> bool:
        return False

    def close(self) -> None:
        self.said.append("closed")


def exit_of(wire: Wire) -> _Exit:
    return _Exit(asyncio.get_running_loop(), cast(asyncio.Transport, wire), wire.close)


def test_a_head_and_its_body_are_one_write() -> None:
    async def run() -> None:
        wire = Wire()
        way = exit_of(wire)
        for part in (b"head ", b"body ", b"more "):
            way.write(part)
        await asyncio.sleep(0)
        assert wire.said == [b"head body ", b"more "]

    asyncio.run(run())


def test_a_head_without_a_body_waits_for_nothing() -> None:
    async def run() -> None:
        wire = Wire()
        way = exit_of(wire)
        way.write(b"head ")
        await asyncio.sleep(0)
        assert wire.said == [b"head "]
        way.write(b"body")
        assert wire.said == [b"head ", b"body"]

    asyncio.run(run())


def test_an_answer_that_ends_the_connection_is_sent_before_that() -> None:
    async def run() -> None:
        wire = Wire()
        way = exit_of(wire)
        way.write(b"head ")
        way.close()
        await asyncio.sleep(0)
        assert wire.said == [b"head ", "closed"]

    asyncio.run(run())
