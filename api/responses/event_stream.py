"""Server-sent events: how they are written, and a response whose reader may not block it."""

import asyncio
import json
import random
from collections.abc import AsyncGenerator, Mapping
from contextlib import AbstractContextManager, aclosing
from typing import Any, Final

from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from api.middleware.request_log import AnswerCut

SEND_SECONDS: Final = 60.0
"""How long a listener may read nothing while there is data for it."""

RETRY_MS: Final = 2000
"""When a listener whose connection broke reconnects."""

RETURN_MS: Final = (500, 5000)
"""When the listeners of a gateway that stops reconnect: each at another time."""

KEEP_ALIVE: Final = ": keep-alive\n\n"


def begin() -> str:
    """Return the first bytes: they open the stream and say when to reconnect."""
    return f"retry: {RETRY_MS}\n\n"


def farewell() -> str:
    """Return a stopping gateway's last bytes: they ask the client to reconnect to another one."""
    return f": this gateway stops; come again\nretry: {random.randint(*RETURN_MS)}\n\n"  # noqa: S311


def event(data: str, *, id_: str, name: str | None = None) -> str:
    """Return one event; its data is JSON on one line. One without a name is a `message`."""
    kind = "" if name is None else f"event: {name}\n"
    return f"{kind}id: {id_}\ndata: {data}\n\n"


def mark(id_: str) -> str:
    """Return an id alone: the listener keeps it for reconnecting, and gets no event."""
    return f"id: {id_}\n\n"


def tombstone(public_id: str, version: int) -> str:
    """Return the event for a deleted job."""
    body = {"id": public_id, "object": "job", "deleted": True, "version": version}
    return json.dumps(body, separators=(",", ":"))


def ending(public_id: str, status: str, version: int) -> str:
    """Return the data of the last event of a job's stream."""
    return json.dumps({"id": public_id, "status": status, "version": version})


_HEADERS: Final[Mapping[str, str]] = {
    "Cache-Control": "no-cache, no-transform",
    "X-Accel-Buffering": "no",  # nginx would hold events back until its buffer is full.
}


class EventStream(StreamingResponse):
    """Sends events as they come, and holds a slot for that time."""

    media_type = "text/event-stream"

    def __init__(
        self, events: AsyncGenerator[str, None], slot: AbstractContextManager[None]
    ) -> None:
        super().__init__(events, headers=_HEADERS)
        self._events = events
        self._slot = slot

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer.

        Raises:
            TooManyStreams, Busy: there is no free slot; nothing was sent yet.
        """
        with self._slot:
            await super().__call__(scope, receive, send)

    async def stream_response(self, send: Send) -> None:
        """Send everything.

        Raises:
            AnswerCut: the listener did not read for `SEND_SECONDS`; it may reconnect.
        """

        async def send_in_time(message: Any) -> None:
            try:
                async with asyncio.timeout(SEND_SECONDS):
                    await send(message)
            except TimeoutError as error:
                raise AnswerCut("the listener does not read") from error

        async with aclosing(self._events):
            await super().stream_response(send_in_time)
