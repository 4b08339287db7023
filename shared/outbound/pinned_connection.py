"""Connections to checked addresses: resolve once, check all, connect to exactly one of these."""

import socket
import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import timedelta
from ipaddress import ip_address
from typing import Final
from uuid import UUID

import httpcore2

from shared.outbound.address_rules import Address, Network, is_public
from shared.outbound.errors import (
    AnswerTooLarge,
    OutboundFailed,
    OutboundRefused,
    OutboundTimedOut,
    TooManyLookups,
)

READ_BYTES: Final = 4096
CONNECT_SECONDS: Final = 5.0
"""For one address: a lost SYN is sent again after 1 and 3 s, and a dead host costs no more
time."""

# getaddrinfo cannot be stopped, so the threads of a dead name server must be limited.
MAX_LOOKUPS: Final = 64
LOOKUPS_EACH: Final = MAX_LOOKUPS * 3 // 4
"""How many one owner gets, whose own domain may have a name server that never answers."""

Resolve = Callable[[str, int], Sequence[Address]]


def resolve_name(host: str, port: int) -> list[Address]:
    """Return every address of a host, as the system resolves it; it may block for long."""
    answers = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(ip_address(sockaddr[0]) for *_, sockaddr in answers))


class Deadline:
    """The moment by which one request has ended, whatever it is doing."""

    def __init__(self, length: timedelta) -> None:
        self._length = length
        self._ends_at = time.monotonic() + length.total_seconds()

    def left(self) -> float:
        """Return the seconds left.

        Raises:
            OutboundTimedOut: none are.
        """
        seconds = self._ends_at - time.monotonic()
        if seconds <= 0:
            raise self.passed()
        return seconds

    def passed(self) -> OutboundTimedOut:
        return OutboundTimedOut(f"no answer within {self._length.total_seconds():g} s")


class Lookups:
    """Name lookups that are given up at a deadline, because `resolve` itself has none.

    A lookup that was given up goes on, and counts until it ends.
    """

    def __init__(self, resolve: Resolve) -> None:
        self._resolve = resolve
        self._ended = threading.Condition()
        self._under_way: Counter[UUID | None] = Counter()

    def addresses(
        self, host: str, port: int, deadline: Deadline, *, owner_id: UUID | None = None
    ) -> Sequence[Address]:
        self._begin(owner_id, deadline)
        found: Future[Sequence[Address]] = Future()
        threading.Thread(
            target=self._look_up, args=(found, host, port, owner_id), name="lookup", daemon=True
        ).start()
        try:
            return found.result(timeout=deadline.left())
        except TimeoutError as error:
            raise deadline.passed() from error
        except (OSError, UnicodeError) as error:
            raise OutboundFailed(f"{host} does not resolve") from error

    def _begin(self, owner_id: UUID | None, deadline: Deadline) -> None:
        """Count a lookup as soon as it may begin."""
        each = MAX_LOOKUPS if owner_id is None else LOOKUPS_EACH

        def is_free() -> bool:
            return (
                self._under_way.total() < MAX_LOOKUPS and self._under_way.get(owner_id, 0) < each
            )

        with self._ended:
            if not self._ended.wait_for(is_free, timeout=deadline.left()):
                raise TooManyLookups("too many name lookups are waiting for the name server")
            self._under_way[owner_id] += 1

    def _look_up(
        self, found: Future[Sequence[Address]], host: str, port: int, owner_id: UUID | None
    ) -> None:
        try:
            found.set_result(self._resolve(host, port))
        except (OSError, UnicodeError) as error:
            found.set_exception(error)
        finally:
            with self._ended:
                self._under_way[owner_id] -= 1
                self._under_way = +self._under_way  # Owners without a lookup are not kept.
                self._ended.notify_all()


@dataclass(frozen=True)
class Gate:
    """The rule for connections: public addresses, and the networks allowed.

    In those networks the `inner_ports` stay closed, because parts of this very service listen
    there.
    """

    allow: Sequence[Network]
    inner_ports: Collection[int] = ()

    def judge(self, host: str, port: int, addresses: Sequence[Address]) -> None:
        """Refuse a host unless connections to every address of it are allowed."""
        # One bad address among good ones is the sign of a rebinding name.
        if not all(is_public(address, self.allow) for address in addresses):
            raise OutboundRefused(
                f"{host} is not at a public address; the operator of this service can allow its"
                " network in STILLREEL_OUTBOUND_ALLOW"
            )
        if port in self.inner_ports and not all(is_public(address) for address in addresses):
            raise OutboundRefused(f"port {port} is closed to requests from here")


HostPort = tuple[str, int]


@dataclass(frozen=True)
class OneServer:
    """Leads to one host and port that the operator has named, and nowhere else."""

    server: HostPort

    def judge(self, host: str, port: int, addresses: Sequence[Address]) -> None:
        if (host, port) != self.server:
            raise OutboundRefused(f"{host} port {port} is not the server that was named")


class PinnedBackend(httpcore2.NetworkBackend):
    """Opens the one connection of one request, to an address that was checked for it."""

    def __init__(
        self,
        lookups: Lookups,
        *,
        gate: Gate | OneServer,
        deadline: Deadline,
        max_bytes: int,
        connect_seconds: float = CONNECT_SECONDS,
        owner_id: UUID | None = None,
    ) -> None:
        self._lookups = lookups
        self._owner_id = owner_id
        self._connect_seconds = connect_seconds
        self._gate = gate
        self._deadline = deadline
        self._max_bytes = max_bytes

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.NetworkStream:
        try:
            addresses = self._lookups.addresses(
                host, port, self._deadline, owner_id=self._owner_id
            )
            self._gate.judge(host, port, addresses)
            connected = self._connect_to_first(host, port, addresses)
        except OutboundFailed as error:
            error.is_sent = False
            raise
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return _Stream(connected, host, self._deadline, self._max_bytes)

    def _connect_to_first(
        self, host: str, port: int, addresses: Sequence[Address]
    ) -> socket.socket:
        failure: OutboundFailed = OutboundFailed(f"{host} does not resolve")
        for tried, address in enumerate(addresses):
            share = self._deadline.left() / (len(addresses) - tried)
            seconds = min(share, self._connect_seconds)
            try:
                return socket.create_connection((str(address), port), timeout=seconds)
            except TimeoutError:
                failure = OutboundTimedOut(f"{host} did not take the connection in time")
            except OSError as error:
                failure = OutboundFailed(f"{host} {_in_words(error)}")
        raise failure


class _Stream(httpcore2.NetworkStream):
    """A connection that is read up to `max_bytes` and never past the deadline.

    The timeouts that httpcore passes are for one call each, so a receiver that sends a byte at a
    time could hold it for ever. They are not used.
    """

    def __init__(
        self, connected: socket.socket, host: str, deadline: Deadline, max_bytes: int
    ) -> None:
        self._socket = connected
        self._host = host
        self._deadline = deadline
        self._max_bytes = max_bytes
        self._received = 0

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        if self._received >= self._max_bytes:
            raise AnswerTooLarge(f"{self._host} answered with more than {self._max_bytes} bytes")
        try:
            self._socket.settimeout(self._deadline.left())
            chunk = self._socket.recv(min(max_bytes, READ_BYTES))
        except TimeoutError as error:
            raise self._deadline.passed() from error
        except OSError as error:
            raise OutboundFailed(f"{self._host} {_in_words(error)}") from error
        if not chunk and not self._received:
            raise OutboundFailed(f"{self._host} closed the connection without an answer")
        self._received += len(chunk)
        return chunk

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        unsent = memoryview(buffer)
        while unsent:
            try:
                self._socket.settimeout(self._deadline.left())
                unsent = unsent[self._socket.send(unsent) :]
            except TimeoutError as error:
                raise self._deadline.passed() from error
            except OSError as error:
                raise OutboundFailed(f"{self._host} {_in_words(error)}") from error

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore2.NetworkStream:
        try:
            self._socket.settimeout(self._deadline.left())
            self._socket = ssl_context.wrap_socket(self._socket, server_hostname=server_hostname)
        except TimeoutError as error:
            self.close()
            raise _unsent(self._deadline.passed()) from error
        except OSError as error:
            self.close()
            raise _unsent(OutboundFailed(f"{self._host} {_in_words(error)}")) from error
        return self

    def close(self) -> None:
        self._socket.close()


def _unsent(error: OutboundFailed) -> OutboundFailed:
    error.is_sent = False
    return error


def _in_words(error: OSError) -> str:
    match error:
        case ssl.SSLCertVerificationError():
            return f"has a TLS certificate that does not verify: {error.verify_message}"
        case ssl.SSLError():
            return "did not agree on TLS"
        case ConnectionRefusedError():
            return "refused the connection"
        case ConnectionError():
            return "cut the connection"
        case _:
            return "could not be reached"
