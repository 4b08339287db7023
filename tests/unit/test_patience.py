"""A body may take as long as its size needs on a slow line, and no longer."""

import asyncio
from collections.abc import Callable

import pytest
from starlette.exceptions import HTTPException
from starlette.types import Message, Receive, Scope, Send

from api.middleware.body_timeout import BodyTimeout

NO_SEND: Send = None  # type: ignore[assignment]


class Clock(asyncio.SelectorEventLoop):
    """A loop whose time passes only when a test says so, however slow the machine is."""

    def __init__(self) -> None:
        self._passed = 0.0
        super().__init__()

    def time(self) -> float:
        return self._passed

    async def pass_time(self, seconds: float) -> None:
        self._passed += seconds
        for _ in range(3):  # A deadline that has passed takes effect first.
            await asyncio.sleep(0)


def sent(*pieces: tuple[float, int]) -> int:
    """Send pieces, each after some seconds, to an app that reads; return the bytes that it got.

    The limit is 10 s, and a second more for each 1000 bytes.
    """
    with asyncio.Runner(loop_factory=Clock) as runner:
        return runner.run(_sent(pieces))


async def _sent(pieces: tuple[tuple[float, int], ...]) -> int:
    clock = asyncio.get_running_loop()
    assert isinstance(clock, Clock)
    rest, got = list(pieces), 0

    async def receive() -> Message:
        seconds, size = rest.pop(0)
        await clock.pass_time(seconds)
        return {"type": "http.request", "body": bytes(size), "more_body": bool(rest)}

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal got
        while (message := await receive())["type"] == "http.request":
            got += len(message["body"])
            if not message["more_body"]:
                return

    patient = BodyTimeout(app, grace_seconds=10, bytes_per_second=1000)
    await patient({"type": "http"}, receive, NO_SEND)
    return got


IN_TIME: dict[str, list[tuple[float, int]]] = {
    "at once": [(0, 5000)],
    "after a pause": [(9, 1)],
    "steadily": [(4, 4000)] * 50,
    "at the least speed": [(1, 1000)] * 500,
}

TOO_SLOW: dict[str, list[tuple[float, int]]] = {
    "nothing at all": [(11, 5000)],
    "a byte a second": [(1, 1)] * 500,
    "half of the least speed": [(1, 500)] * 500,
    "a good start and then nothing": [(0, 5000), (16, 1)],
}


@pytest.mark.parametrize("kind", IN_TIME)
def test_a_body_that_comes_at_the_least_speed_is_read(kind: str) -> None:
    pieces = IN_TIME[kind]
    assert sent(*pieces) == sum(size for _, size in pieces)


@pytest.mark.parametrize("kind", TOO_SLOW)
def test_a_body_that_comes_slower_is_refused_and_its_connection_closed(kind: str) -> None:
    with pytest.raises(HTTPException, match="arrives too slowly") as refused:
        sent(*TOO_SLOW[kind])
    assert refused.value.status_code == 408
    assert refused.value.headers == {"Connection": "close"}


def test_a_client_may_wait_for_ever_once_its_body_has_arrived() -> None:
    messages = [{"type": "http.request", "body": b"x", "more_body": False}]
    hangs_up: Message = {"type": "http.disconnect"}

    async def scenario(clock: Callable[[], Clock]) -> Message:
        async def receive() -> Message:
            if messages:
                return messages.pop()
            await clock().pass_time(3600)
            return hangs_up

        last: Message = {}

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            nonlocal last
            await receive()
            last = await receive()

        await BodyTimeout(app, grace_seconds=10)({"type": "http"}, receive, NO_SEND)
        return last

    with asyncio.Runner(loop_factory=Clock) as runner:
        loop = runner.get_loop()
        assert isinstance(loop, Clock)
        assert runner.run(scenario(lambda: loop)) == hangs_up
