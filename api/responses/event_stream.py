"""Server-sent events: how they are written, and a response whose reader may not stall it."""

import asyncio
import json
import random
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractContextManager, aclosing
from typing import Any, Final

from starlette.responses import StreamingResponse
from starlette.types import Send

from api.middleware.request_log import AnswerCut

SEND_SECONDS: Final = 60.0
"""How long a listener may read nothing while there is something for it."""

RETRY_MS: Final = 2000
"""When a listener whose connection broke comes again."""

RETURN_MS: Final = (500, 5000)
"""When the listeners of a gateway that stops come again: each at another time."""

KEEP_ALIVE: Final = ": keep-alive\n\n"


def begin() -> str:
    """Return the first bytes: they say that the stream stands, and when to come again."""
    return f"retry: {RETRY_MS}\n\n"


def farewell() -> str:
    """Return the last bytes of a gateway that stops: come again, to another one."""
    return f": this gateway stops; come again\nretry: {random.randint(*RETURN_MS)}\n\n"  # noqa: S311


def event(name: str, data: str, *, id_: str) -> str:
    """Return one event; its data is JSON on one line."""
    return f"event: {name}\nid: {id_}\ndata: {data}\n\n"


def mark(id_: str) -> str:
    """Return an id alone: the listener keeps it for its return, and is told nothing."""
    return f"id: {id_}\n\n"


def tombstone(public_id: str, version: int) -> str:
    """Return what is left of a deleted job."""
    body = {"id": public_id, "object": "job", "deleted": True, "version": version}
    return json.dumps(body, separators=(",", ":"))


class EventStream(StreamingResponse):
    """Sends events as they come, and holds a slot for as long as it does."""

    media_type = "text/event-stream"

    def __init__(
        self, events: AsyncIterator[str], slot: AbstractContextManager[None], **options: Any
    ) -> None:
        super().__init__(events, headers=_HEADERS, **options)
        self._events = events
        self._slot = slot

    async def stream_response(self, send: Send) -> None:
        """Send everything.

        Raises:
            AnswerCut: the listener did not read for `SEND_SECONDS`; it may come again.
        """

        async def send_in_time(message: Any) -> None:
            try:
                async with asyncio.timeout(SEND_SECONDS):
                    await send(message)
            except TimeoutError as error:
                raise AnswerCut("the listener does not read") from error

        async with aclosing(self._events):  # type: ignore[type-var]
            await super().stream_response(send_in_time)


_HEADERS: Final[Mapping[str, str]] = {
    "Cache-Control": "no-cache, no-transform",
    "X-Accel-Buffering": "no",  # nginx would keep events until its buffer is full.
}
