"""Connections that no client can hold open, or fill memory with, by sending requests slowly."""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Final, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from api.problems import problem_response
from shared.errors import NotHttp
from shared.ids import new_id

HEAD_SECONDS: Final = 30.0
"""The time from the connection, or from the first byte after an answer, to the end of a request's
headers."""

MAX_HEAD_BYTES: Final = 64 * 1024
FRAMING: Final = 8
"""Bytes on the wire for one byte of a body: chunks of one byte take six."""


class _Exit:
    """The transport as an answer needs it: the head goes out with the first part of the body.

    uvicorn writes them one by one; each write is a system call and wakes the client. If no body
    follows within the same turn of the loop, as in a stream, the head goes alone.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        transport: asyncio.Transport,
        close: Callable[[], None],
    ) -> None:
        self._loop = loop
        self._transport = transport
        self._close = close
        self._head: bytes | None = None
        self._has_begun = False
        self.is_closing = transport.is_closing

    def write(self, part: bytes) -> None:
        if not self._has_begun:
            self._has_begun = True
            self._head = part
            self._loop.call_soon(self._write_head)
            return
        head, self._head = self._head, None
        self._transport.write(part if head is None else head + part)

    def close(self) -> None:
        self._write_head()
        self._close()

    def _write_head(self) -> None:
        head, self._head = self._head, None
        if head is not None:
            self._transport.write(head)


class BoundedProtocol(HttpToolsProtocol):
    """Bounds uvicorn's protocol, which by itself waits for ever for headers of any length.

    The first byte disarms its own timer for idle connections. If a client asks to close, it closes
    while a refused body is still arriving. That resets the connection, which may destroy the
    answer, and nginx makes a 502 of a 401.
    """

    head_seconds = HEAD_SECONDS
    _closing: asyncio.TimerHandle | None = None
    _line_bytes = 0
    _body_bytes = 0
    _is_lingering = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._close_in_time()

    def connection_lost(self, exc: Exception | None) -> None:
        self._let_be()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._is_lingering:
            return
        self._line_bytes += len(data)
        super().data_received(data)
        if self._line_bytes > MAX_HEAD_BYTES + FRAMING * self._body_bytes:
            self.transport.abort()
        # Nobody waits for these bytes: the next request's headers, or a body already refused.
        elif self._closing is None and (self.cycle is None or self.cycle.response_complete):
            self._close_in_time()

    def on_message_begin(self) -> None:
        self._line_bytes = self._body_bytes = 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._let_be()
        super().on_headers_complete()
        if self.cycle is not None:
            close = partial(self._leave, self.cycle)
            self.cycle.transport = cast(asyncio.Transport, _Exit(self.loop, self.transport, close))

    def on_body(self, body: bytes) -> None:
        self._body_bytes += len(body)
        super().on_body(body)

    def send_400_response(self, msg: str) -> None:
        """Say, in the form of every other error, that these bytes are not a request, and close.

        Args:
            msg: uvicorn's own message, which does not say what would be right.
        """
        error = NotHttp(
            "these bytes are not an HTTP/1.1 request: check its request line, headers and chunks"
        )
        answer = problem_response(error, {"state": {"request_id": f"req_{new_id().hex}"}})
        lines = [b"HTTP/1.1 400 Bad Request", *(b": ".join(pair) for pair in answer.raw_headers)]
        head = b"\r\n".join([*lines, b"connection: close\r\n\r\n"])
        self.transport.write(head + bytes(answer.body))
        self.transport.close()

    def _leave(self, cycle: RequestResponseCycle) -> None:
        """Close; while a body is arriving, close only our own half until the client closes too."""
        if not cycle.more_body or self.transport.is_closing():
            self.transport.close()
            return
        self._is_lingering = True
        self.transport.write_eof()
        self.flow.resume_reading()
        self._close_in_time()

    def _close_in_time(self) -> None:
        self._closing = self.loop.call_later(self.head_seconds, self._close)

    def _let_be(self) -> None:
        if self._closing is not None:
            self._closing.cancel()
            self._closing = None

    def _close(self) -> None:
        self.transport.close()
