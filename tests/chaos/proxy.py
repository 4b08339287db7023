"""A TCP proxy on loopback that refuses, delays, or cuts connections at the worst moment."""

import asyncio
import contextlib
import threading
from concurrent.futures import Future
from typing import Any, Final, Self

CHUNK: Final = 64 * 1024
COMMIT: Final = b"COMMIT"


class Proxy:
    """A proxy before one server; a test's settings apply to every connection from then on."""

    def __init__(self, server_port: int) -> None:
        self.is_refusing = False
        self.delay_seconds = 0.0
        self.cuts = 0
        self._cut_pattern: bytes | None = None
        self._cut_bytes: int | None = None
        self._cuts_left = 0
        self._server_port = server_port
        self._open: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._thread.start()
        self._server: asyncio.Server = self._do(self._listen()).result(60)
        self.port: int = self._server.sockets[0].getsockname()[1]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._do(self._close()).result(60)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(60)
        self._loop.close()

    def refuse(self) -> None:
        """Cut all open connections and refuse new ones until `heal`."""
        self.is_refusing = True
        self._loop.call_soon_threadsafe(self._abort_all)

    def cut_after(self, pattern: bytes, times: int) -> None:
        """Pass the pattern to the server, then cut before it answers: the client never knows."""
        self._cut_pattern, self._cuts_left = pattern, times

    def cut_after_bytes(self, sent: int, times: int) -> None:
        """Cut a connection in both directions once its client has sent this much."""
        self._cut_bytes, self._cuts_left = sent, times

    def heal(self) -> None:
        self.is_refusing = False
        self.delay_seconds = 0.0
        self._cut_pattern = self._cut_bytes = None
        self._cuts_left = 0

    async def _listen(self) -> asyncio.Server:
        return await asyncio.start_server(self._serve, "127.0.0.1", 0)

    async def _close(self) -> None:
        self._server.close()
        self._abort_all()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        if tasks:
            await asyncio.wait(tasks, timeout=30)

    def _do(self, work: Any) -> "Future[Any]":
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def _abort_all(self) -> None:
        for writer in list(self._open):
            writer.transport.abort()

    async def _serve(self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        if self.is_refusing:
            to_client.transport.abort()
            return
        try:
            server, to_server = await asyncio.open_connection("127.0.0.1", self._server_port)
        except OSError:
            to_client.transport.abort()
            return
        both = (to_client, to_server)
        self._open.update(both)
        with contextlib.suppress(OSError):
            answers = asyncio.create_task(self._answers(server, to_client, to_server))
            await self._requests(client, to_client, to_server)
            await answers
        self._open.difference_update(both)
        for writer in both:
            writer.close()

    async def _requests(
        self,
        client: asyncio.StreamReader,
        to_client: asyncio.StreamWriter,
        to_server: asyncio.StreamWriter,
    ) -> None:
        sent = 0
        with contextlib.suppress(OSError):
            while data := await client.read(CHUNK):
                if self.delay_seconds:
                    await asyncio.sleep(self.delay_seconds)
                sent += len(data)
                if self._wants_cut_in(data):
                    to_server.write(data)
                    await to_server.drain()
                    to_client.transport.abort()
                    break
                if self._wants_cut_at(sent):
                    to_server.write(data[: len(data) // 2])
                    await to_server.drain()
                    to_client.transport.abort()
                    to_server.transport.abort()
                    return
                to_server.write(data)
                await to_server.drain()
            to_server.write_eof()  # This is no reset, because a reset could overtake the COMMIT.

    async def _answers(
        self,
        server: asyncio.StreamReader,
        to_client: asyncio.StreamWriter,
        to_server: asyncio.StreamWriter,
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await server.read(CHUNK):
                to_client.write(data)
                await to_client.drain()
        to_client.close()
        to_server.close()

    def _wants_cut_in(self, data: bytes) -> bool:
        return self._cut_pattern is not None and self._cut_pattern in data and self._take_cut()

    def _wants_cut_at(self, sent: int) -> bool:
        return self._cut_bytes is not None and sent >= self._cut_bytes and self._take_cut()

    def _take_cut(self) -> bool:
        if self._cuts_left <= 0:
            return False
        self._cuts_left -= 1
        self.cuts += 1
        return True
