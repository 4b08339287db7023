"""Canaries: listeners that no request may reach, and a witness of every connect of this test."""

import contextlib
import socket
import sys
import threading
from collections.abc import Iterator, Sequence
from typing import Any, Final

import psutil

SERVICE_PORTS: Final = (80, 443, 5432, 6379, 8333, 8888, 9000, 9333)
"""The usual ports of web servers, Postgres, Valkey, SeaweedFS and MinIO."""


class Canaries:
    """Listens on every address of this machine; `woken` counts the connections accepted.

    Connections of other processes do not count, because tests that run beside these may look for a
    service at its usual port.
    """

    def __init__(self) -> None:
        self.woken = 0
        self._listeners = [_listen(0)]
        self.port: int = self._listeners[0].getsockname()[1]
        for port in SERVICE_PORTS:
            # A port that another program holds has no canary; the witness still sees connects to
            # it.
            with contextlib.suppress(OSError):
                self._listeners.append(_listen(port))
        self.ports = [listener.getsockname()[1] for listener in self._listeners]
        self._threads = [
            threading.Thread(target=self._watch, args=(listener,), name="canary", daemon=True)
            for listener in self._listeners
        ]
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        for listener in self._listeners:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        for thread in self._threads:
            thread.join(10)

    def _watch(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, peer = listener.accept()
                if not _is_anothers(peer[1], connection.getsockname()[1]):
                    self.woken += 1
                with contextlib.suppress(OSError), connection:
                    connection.settimeout(10)
                    connection.recv(65536)  # Closing with unread data would reset the answer.
                    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")


class Witness:
    """Remembers the address of every attempted connect, whether a listener heard it or not."""

    def __init__(self) -> None:
        self._is_listening = False
        self._thread = 0
        self.attempts: list[Any] = []
        # The hook is for the whole process, because Python cannot remove it.
        sys.addaudithook(self._hear)

    @contextlib.contextmanager
    def listening(self) -> Iterator[list[Any]]:
        """Yield the attempts of this thread from now on."""
        self.attempts = []
        self._thread = threading.get_ident()
        self._is_listening = True
        try:
            yield self.attempts
        finally:
            self._is_listening = False

    def _hear(self, event: str, args: tuple[Any, ...]) -> None:
        if (
            self._is_listening
            and event == "socket.connect"
            and threading.get_ident() == self._thread
        ):
            self.attempts.append(args[1])


def _is_anothers(port: int, to: int) -> bool:
    """Say whether a connection to one of our ports is known to come from another process."""
    if _is_among(psutil.Process().net_connections("tcp"), port, to):
        return False
    return _is_among(psutil.net_connections("tcp"), port, to)


def _is_among(connections: Sequence[Any], port: int, to: int) -> bool:
    """A socket that its owner has closed belongs to no process."""
    return any(
        each.status == psutil.CONN_ESTABLISHED and (each.laddr.port, each.raddr.port) == (port, to)
        for each in connections
    )


def _listen(port: int) -> socket.socket:
    if socket.has_dualstack_ipv6():
        return socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True)
    return socket.create_server(("0.0.0.0", port))  # noqa: S104 (every address on purpose)
