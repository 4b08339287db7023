"""How long a body may take to arrive: a client that is too slow gets 408 and is disconnected."""

import asyncio
from typing import Final

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

GRACE_SECONDS: Final = 20.0
BYTES_PER_SECOND: Final = 16 * 1024
"""Slower than 3G sends (a phone at 200 kbit/s needs 22 minutes for 32 MiB, and has 34)."""


class BodyTimeout:
    """Gives a body the grace period, and a second more for each `bytes_per_second` received.

    Only time spent waiting counts: if this process is slow, no client is charged for it.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        grace_seconds: float = GRACE_SECONDS,
        bytes_per_second: float = BYTES_PER_SECOND,
    ) -> None:
        self._app = app
        self._grace_seconds = grace_seconds
        self._bytes_per_second = bytes_per_second

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        seconds, waited, is_complete = self._grace_seconds, 0.0, False

        async def receive_in_time() -> Message:
            nonlocal seconds, waited, is_complete
            # The next message is the client's disconnect, which may take for ever.
            if is_complete:
                return await receive()
            clock = asyncio.get_running_loop().time
            began = clock()
            try:
                async with asyncio.timeout(seconds - waited):
                    message = await receive()
            except TimeoutError as error:
                raise self._too_slow() from error
            waited += clock() - began
            seconds += len(message.get("body", b"")) / self._bytes_per_second
            is_complete = not message.get("more_body", False)
            return message

        await self._app(scope, receive_in_time, send)

    def _too_slow(self) -> HTTPException:
        return HTTPException(
            408,
            f"the body arrives too slowly: after {self._grace_seconds:g} s it needs"
            f" {self._bytes_per_second / 1024:g} KiB/s; send it again over a faster connection,"
            " or send a smaller image",
            headers={"Connection": "close"},
        )
