"""A webhook receiver on loopback that answers well, badly or never, and remembers its requests."""

import contextlib
import gzip
import json
import socket
import ssl
import struct
import threading
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final, Self

from tests.support.ports import free_port

SECONDS: Final = 60.0
"""How long a test waits for a request that must come."""


@dataclass(frozen=True)
class Received:
    """One request as it arrived; header names are in lower case."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    at: float

    def json(self) -> Any:
        return json.loads(self.body)


class Peer:
    """The other end of one connection, for a behaviour to treat as it likes."""

    def __init__(
        self,
        connection: socket.socket,
        stopping: threading.Event,
        answers: Callable[[], None] = lambda: None,
    ) -> None:
        """`answers` is called before anything is sent, each time."""
        self._connection = connection
        self._stopping = stopping
        self._answers = answers

    def send(self, data: bytes) -> None:
        self._answers()
        self._connection.sendall(data)

    def pause(self, seconds: float) -> None:
        """Wait, or raise ConnectionError when the test is over."""
        if self._stopping.wait(seconds):
            raise ConnectionError

    def wait_until_gone(self) -> None:
        while self._connection.recv(4096):
            pass

    def reset(self) -> None:
        self._connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._connection.close()


Behaviour = Callable[[Peer], None]


def status(code: int, body: bytes = b"", **headers: str) -> Behaviour:
    """Answer at once; `Retry_After="2"` becomes a header."""
    return lambda peer: peer.send(_answer(code, body, **headers))


def redirect(to: str) -> Behaviour:
    return status(302, Location=to)


def hang() -> Behaviour:
    """Take the request and never answer."""
    return Peer.wait_until_gone


def late(seconds: float, code: int = 204) -> Behaviour:
    def behave(peer: Peer) -> None:
        peer.pause(seconds)
        peer.send(_answer(code))

    return behave


def once(event: threading.Event, code: int = 204) -> Behaviour:
    """Answer when the test says so, or never if the test ends first."""

    def behave(peer: Peer) -> None:
        while not event.wait(0.01):
            peer.pause(0)
        peer.send(_answer(code))

    return behave


def drip_head(interval: float) -> Behaviour:
    """Send a status line, then headers for ever, one byte at a time."""
    return lambda peer: _drip(peer, b"HTTP/1.1 200 OK\r\nX-Slow: ", interval)


def drip_body(interval: float, code: int = 200) -> Behaviour:
    """Answer, then send the body for ever, one byte at a time."""
    head = f"HTTP/1.1 {code} Slow\r\nContent-Length: 1000000\r\n\r\n".encode()
    return lambda peer: _drip(peer, head, interval)


def drip_tls(interval: float) -> Behaviour:
    """Announce a TLS record of 16 kB, then send it one byte at a time."""
    return lambda peer: _drip(peer, b"\x16\x03\x03\x3f\xff", interval)


def endless_body(code: int = 200) -> Behaviour:
    return lambda peer: _flood(peer, f"HTTP/1.1 {code} Big\r\n\r\n".encode(), b"x" * 65536)


def stalled_body(size: int) -> Behaviour:
    """Answer, send this much of a larger body, and no more."""

    def behave(peer: Peer) -> None:
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n" + b"x" * size)
        peer.wait_until_gone()

    return behave


def endless_head() -> Behaviour:
    return lambda peer: _flood(peer, b"HTTP/1.1 200 OK\r\n", b"X-More: " + b"x" * 500 + b"\r\n")


def tiny_chunks() -> Behaviour:
    """Answer with a body that is almost only framing: six bytes for each byte of content."""
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    return lambda peer: _flood(peer, head, b"1\r\nx\r\n" * 1000)


def gzip_bomb() -> Behaviour:
    """Answer with a megabyte of zeros in a thousand bytes."""
    return status(200, gzip.compress(bytes(1_000_000)), Content_Encoding="gzip")


def cut_body() -> Behaviour:
    """Close in the middle of the announced body."""
    return lambda peer: peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")


def garbage() -> Behaviour:
    return lambda peer: peer.send(b"220 mail.example.org ESMTP\r\n")


def close() -> Behaviour:
    return lambda peer: None


def reset() -> Behaviour:
    return Peer.reset


class Receiver:
    """Listens on one loopback address; each path follows its script, whose last line repeats.

    A `greeting` comes before the request is read.
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        *,
        port: int = 0,
        tls: ssl.SSLContext | None = None,
        greeting: Behaviour | None = None,
    ) -> None:
        self._tls = tls
        self._greeting = greeting
        self._stopping = threading.Event()
        self._changed = threading.Condition()
        self._scripts: dict[str, deque[Behaviour]] = {}
        self._connections: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._open: Counter[str] = Counter()
        self.peak: defaultdict[str, int] = defaultdict(int)
        self.requests: list[Received] = []
        self.connects = 0
        self._listener = socket.create_server((host, port), backlog=128)
        self.host = host
        self.port: int = self._listener.getsockname()[1]
        self._start(self._accept)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        for connection in (self._listener, *tuple(self._connections)):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(SECONDS)

    def url(self, path: str = "/", *, host: str | None = None) -> str:
        scheme = "http" if self._tls is None else "https"
        return f"{scheme}://{host or self.host}:{self.port}{path}"

    def script(self, path: str, *behaviours: Behaviour) -> None:
        """Give a path's requests these behaviours in turn; without a script the answer is 200."""
        with self._changed:
            self._scripts[path] = deque(behaviours)

    def at(self, path: str) -> list[Received]:
        with self._changed:
            return [request for request in self.requests if request.path == path]

    def wait_for(self, count: int, path: str = "/") -> list[Received]:
        """Return the requests for a path once there are `count`."""
        with self._changed:
            here = self._changed.wait_for(lambda: len(self.at(path)) >= count, SECONDS)
        assert here, f"{len(self.at(path))} of {count} requests came to {path}"
        return self.at(path)

    def _start(self, target: Callable[..., None], *args: object) -> None:
        thread = threading.Thread(target=target, args=args, name="receiver", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while not self._stopping.is_set():
                connection, _ = self._listener.accept()
                self.connects += 1
                self._start(self._serve, connection)

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError, ValueError):
            connection.settimeout(SECONDS)
            self._connections.add(connection)
            if self._greeting is not None:
                self._greeting(Peer(connection, self._stopping))
            if self._tls is not None:
                connection = self._tls.wrap_socket(connection, server_side=True)
                self._connections.add(connection)
            request = _read_request(connection)
            with contextlib.ExitStack() as waiting:
                waiting.enter_context(self._counted(request.path))
                # A client that has its answer may send the next request before this thread
                # continues.
                self._behaviour(request)(Peer(connection, self._stopping, waiting.close))
        self._connections.discard(connection)
        connection.close()

    @contextlib.contextmanager
    def _counted(self, path: str) -> Iterator[None]:
        with self._changed:
            self._open[path] += 1
            self.peak[path] = max(self.peak[path], self._open[path])
        try:
            yield
        finally:
            with self._changed:
                self._open[path] -= 1

    def _behaviour(self, request: Received) -> Behaviour:
        with self._changed:
            script = self._scripts.get(request.path) or deque([status(200)])
            behaviour = script.popleft() if len(script) > 1 else script[0]
            self.requests.append(request)
            self._changed.notify_all()
        return behaviour


@contextlib.contextmanager
def two_of_a_port() -> Iterator[tuple[Receiver, Receiver]]:
    """Yield receivers on 127.0.0.2 and 127.0.0.1 that listen on one port.

    A port that the kernel lends for the first address may already be in use for the second.
    """
    port = free_port()
    with Receiver("127.0.0.2", port=port) as one, Receiver("127.0.0.1", port=port) as other:
        yield one, other


def _answer(code: int, body: bytes = b"", **headers: str) -> bytes:
    lines = [f"HTTP/1.1 {code} Answer"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    if code not in (204, 304):
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def _drip(peer: Peer, head: bytes, interval: float) -> None:
    peer.send(head)
    while True:
        peer.pause(interval)
        peer.send(b"x")


def _flood(peer: Peer, head: bytes, more: bytes) -> None:
    peer.send(head)
    while True:
        peer.send(more)


def _read_request(connection: socket.socket) -> Received:
    """Read one request.

    Raises:
        ValueError: the client went away before it had sent one.
    """
    with connection.makefile("rb") as reader:
        method, path, _ = reader.readline().decode().split(" ")
        headers: dict[str, str] = {}
        while line := reader.readline().strip():
            name, _, value = line.decode("latin-1").partition(":")
            headers[name.lower()] = value.strip()
        body = reader.read(int(headers.get("content-length", "0")))
    return Received(method, path, headers, body, time.monotonic())
