"""The only door for outgoing HTTP: it checks and pins the address it connects to."""

import contextlib
import os
import ssl
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import BinaryIO, Final
from uuid import UUID

import httpcore2
import httpx2

from shared.outbound.address_rules import Network
from shared.outbound.errors import (
    AnswerTooLarge,
    OutboundFailed,
    OutboundRefused,
    TooManyRedirects,
    UnusableAnswer,
)
from shared.outbound.pinned_connection import (
    CONNECT_SECONDS,
    Deadline,
    Gate,
    HostPort,
    Lookups,
    OneServer,
    PinnedBackend,
    Resolve,
    resolve_name,
)
from shared.outbound.url import Target

HEAD_BYTES: Final = 16 * 1024
"""The limit of an answer's status line and headers, beside `max_bytes`."""

FRAMING_SHARE: Final = 8  # The lengths of chunks of 50 bytes would still fit into this part.
MAX_REDIRECTS: Final = 4
AUTHORITIES: Final = ("SSL_CERT_FILE", "SSL_CERT_DIR")
"""What names other authorities than those that the library brings."""

TOLD_SECONDS: Final = 0.5
"""The pause between signs of life of a download, while bytes arrive."""

REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})


@dataclass(frozen=True)
class Answer:
    """The answer: header names in lower case, the body as sent and cut at `max_bytes`.

    For `send` the body is whole.
    """

    status_code: int
    headers: Mapping[str, str]
    excerpt: bytes


class Outbound:
    """Requests made for clients: only to public addresses, and within a time limit.

    Each connection resolves its host once, connects to that address and no other, and verifies TLS
    by the host's name. A request has ended after `deadline`, with lookups, connects, redirects and
    answers. `closed_ports` are closed everywhere; `inner_ports` only inside the allowed networks,
    because other public hosts may use the same numbers. Proxies of the environment are not used,
    because they would do their own lookup. `owner_id` names the owner that a request is made for,
    whose lookups leave some for others.
    """

    def __init__(
        self,
        allow: Sequence[Network],
        *,
        deadline: timedelta,
        max_bytes: int,
        closed_ports: Collection[int] = (),
        inner_ports: Collection[int] = (),
        only: HostPort | None = None,
        resolve: Resolve = resolve_name,
        tls: ssl.SSLContext | None = None,
        connect_seconds: float = CONNECT_SECONDS,
    ) -> None:
        """Open one door; with `only` it leads to one server of the operator and nowhere else."""
        self._deadline = deadline
        self._max_bytes = max_bytes
        self._closed_ports = closed_ports
        self._gate: Gate | OneServer = (
            Gate(allow, inner_ports) if only is None else OneServer(only)
        )
        self._lookups = Lookups(resolve)
        self._connect_seconds = connect_seconds
        self._tls = tls or _trusted(*(os.environ.get(name) for name in AUTHORITIES))

    @property
    def deadline(self) -> timedelta:
        return self._deadline

    def check(self, url: str, *, owner_id: UUID | None = None) -> None:
        """Check where a URL leads now, without connecting; each request checks it again.

        Raises:
            OutboundRefused: as `post`.
            OutboundFailed: its host does not resolve.
        """
        target = self._open_port(Target.parse(url))
        deadline = Deadline(self._deadline)
        addresses = self._lookups.addresses(target.host, target.port, deadline, owner_id=owner_id)
        self._gate.judge(target.host, target.port, addresses)

    def post(
        self, url: str, body: bytes, headers: Mapping[str, str], *, owner_id: UUID | None = None
    ) -> Answer:
        """Send a body and return the answer, whatever its status; no redirect is followed.

        Raises:
            OutboundRefused: a client may not name this URL or the address behind it.
            OutboundFailed: there was no answer: the network, TLS, the receiver or the deadline.
        """
        target = self._open_port(Target.parse(url))
        request = _request("POST", target, headers, body)
        max_bytes = HEAD_BYTES + self._max_bytes
        deadline = Deadline(self._deadline)
        with self._response(request, target, deadline, max_bytes, owner_id=owner_id) as response:
            return self._read(response)

    def send(
        self, method: str, url: str, *, headers: Mapping[str, str], body: bytes | None = None
    ) -> Answer:
        """Send a request and return the whole answer, whatever its status; follow no redirect.

        Raises:
            OutboundRefused: as `post`.
            AnswerTooLarge: there is more than `max_bytes`.
            OutboundFailed: as `post`; `is_sent` says whether anything of the request has left.
        """
        target = self._open_port(Target.parse(url))
        request = _request(method, target, headers, body)
        max_bytes = HEAD_BYTES + self._max_bytes + self._max_bytes // FRAMING_SHARE
        with self._response(request, target, Deadline(self._deadline), max_bytes) as response:
            whole = b"".join(self._chunks(response, target))
            return Answer(response.status, _headers(response), whole)

    def download(
        self,
        url: str,
        into: BinaryIO,
        *,
        headers: Mapping[str, str],
        on_bytes: Callable[[int, int | None], None],
        redirects: int = MAX_REDIRECTS,
    ) -> Answer:
        """Write the body of a GET to a file, at most `max_bytes`; return the rest of the answer.

        Only a 200 is written; of other answers the first bytes are in the excerpt. Headers go only
        to the first address, because the target of a redirect has no right to a key.

        Args:
            on_bytes: called with the bytes that have arrived, and the total if it is known; it may
                raise.
            redirects: how many are followed; each is checked as if the client had given it.

        Raises:
            OutboundRefused, AnswerTooLarge, OutboundFailed: as `fetch`.
        """
        target = self._open_port(Target.parse(url))
        deadline = Deadline(self._deadline)
        max_bytes = HEAD_BYTES + self._max_bytes + self._max_bytes // FRAMING_SHARE
        for _ in range(1 + redirects):
            request = _request("GET", target, headers, None)
            with self._response(request, target, deadline, max_bytes) as response:
                location = _location(response)
                if location is None or not redirects:
                    return self._written(response, target, into, on_bytes)
            target, headers = self._open_port(target.following(location)), {}
        raise TooManyRedirects(f"there are more than {redirects} redirects")

    def fetch(self, url: str, *, accept: str, owner_id: UUID | None = None) -> bytes:
        """Return the whole body of a GET, at most `max_bytes`.

        Up to MAX_REDIRECTS redirects are followed; each is parsed, checked and connected to as if
        the client had given it.

        Args:
            accept: the media types asked for; the answer may have any type.

        Raises:
            OutboundRefused: as `post`, for every hop; or there are too many hops.
            UnusableAnswer: the last answer is not a 200, or is compressed although we accept no
                compression.
            AnswerTooLarge: there is more than `max_bytes`.
            OutboundFailed: as `post`.
        """
        target = self._open_port(Target.parse(url))
        deadline = Deadline(self._deadline)
        max_bytes = HEAD_BYTES + self._max_bytes + self._max_bytes // FRAMING_SHARE
        for _ in range(1 + MAX_REDIRECTS):
            request = _request("GET", target, {"Accept": accept}, None)
            with self._response(
                request, target, deadline, max_bytes, owner_id=owner_id
            ) as response:
                location = _location(response)
                if location is None:
                    return self._whole(response, target)
            target = self._open_port(target.following(location))
        raise TooManyRedirects(
            f"there are more than {MAX_REDIRECTS} redirects; give the URL they end at"
        )

    def _open_port(self, target: Target) -> Target:
        # In a network of the operator that is allowed there may be our database too.
        if target.port in self._closed_ports and not isinstance(self._gate, OneServer):
            raise OutboundRefused(f"port {target.port} is closed to requests from here")
        return target

    @contextlib.contextmanager
    def _response(
        self,
        request: httpcore2.Request,
        target: Target,
        deadline: Deadline,
        max_bytes: int,
        *,
        owner_id: UUID | None = None,
    ) -> Iterator[httpcore2.Response]:
        backend = PinnedBackend(
            self._lookups,
            gate=self._gate,
            deadline=deadline,
            max_bytes=max_bytes,
            connect_seconds=self._connect_seconds,
            owner_id=owner_id,
        )
        connection = httpcore2.HTTPConnection(
            request.url.origin, ssl_context=self._tls, network_backend=backend
        )
        with contextlib.closing(connection):
            try:
                response = connection.handle_request(request)
            except httpcore2.ProtocolError as error:
                raise OutboundFailed(f"{target.host} did not answer in HTTP") from error
            yield response

    def _written(
        self,
        response: httpcore2.Response,
        target: Target,
        into: BinaryIO,
        on_bytes: Callable[[int, int | None], None],
    ) -> Answer:
        if response.status != 200:
            return self._read(response)
        total = int(_header(response, b"content-length") or 0) or None
        received, told_at = 0, time.monotonic()
        for chunk in self._chunks(response, target):
            into.write(chunk)
            received += len(chunk)
            if time.monotonic() - told_at >= TOLD_SECONDS:
                on_bytes(received, total)
                told_at = time.monotonic()
        on_bytes(received, total)
        return Answer(response.status, _headers(response), b"")

    def _chunks(self, response: httpcore2.Response, target: Target) -> Iterator[bytes]:
        """Yield the body, at most `max_bytes` of it."""
        if _header(response, b"content-encoding") not in (None, b"", b"identity"):
            raise UnusableAnswer(f"{target.host} answered with a Content-Encoding; send none")
        too_large = AnswerTooLarge(
            f"{target.host} sends more than {self._max_bytes} bytes, which is the limit"
        )
        if int(_header(response, b"content-length") or 0) > self._max_bytes:
            raise too_large
        received = 0
        try:
            for chunk in response.iter_stream():
                received += len(chunk)
                if received > self._max_bytes:
                    raise too_large
                yield chunk
        except httpcore2.ProtocolError as error:
            raise OutboundFailed(f"{target.host} ended its answer in the middle") from error

    def _read(self, response: httpcore2.Response) -> Answer:
        excerpt = bytearray()
        # Only the status counts: a body that is cut, late or too long is just shorter.
        with contextlib.suppress(OutboundFailed, httpcore2.ProtocolError):
            for chunk in response.iter_stream():
                excerpt += chunk
                if len(excerpt) >= self._max_bytes:
                    break
        return Answer(response.status, _headers(response), bytes(excerpt[: self._max_bytes]))

    def _whole(self, response: httpcore2.Response, target: Target) -> bytes:
        if response.status != 200:
            raise UnusableAnswer(f"{target.host} answered {response.status} in place of 200")
        return b"".join(self._chunks(response, target))


def _request(
    method: str, target: Target, headers: Mapping[str, str], body: bytes | None
) -> httpcore2.Request:
    """Return a request that carries these headers and nothing else of ours."""
    length = {} if body is None else {"Content-Length": str(len(body))}
    return httpcore2.Request(
        method,
        httpcore2.URL(
            scheme=target.scheme, host=target.host, port=target.port, target=target.path
        ),
        headers=[
            ("Host", target.authority),
            ("User-Agent", "Stillreel"),
            # The body is read as it is sent: nothing here unpacks a compression bomb.
            ("Accept-Encoding", "identity"),
            ("Connection", "close"),
            *length.items(),
            *headers.items(),
        ],
        content=body,
    )


def _headers(response: httpcore2.Response) -> Mapping[str, str]:
    return {
        name.decode("latin-1").lower(): value.decode("latin-1") for name, value in response.headers
    }


def _location(response: httpcore2.Response) -> str | None:
    """Return the target of a redirect, None if the answer is no redirect."""
    if response.status not in REDIRECTS:
        return None
    location = _header(response, b"location")
    return None if location is None else location.decode("utf-8", "replace")


def _header(response: httpcore2.Response, name: bytes) -> bytes | None:
    values = (value for key, value in response.headers if key.lower() == name)
    return next(values, None)


@cache
def _trusted(file: str | None, folder: str | None) -> ssl.SSLContext:
    """Return what verifies others' certificates; to read the authorities takes 30 ms of a core.

    The arguments are the environment's, which the library reads itself.
    """
    return httpx2.create_ssl_context()
