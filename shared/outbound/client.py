"""The only door for outgoing HTTP: it checks and pins the address it connects to."""

import contextlib
import ssl
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

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
    Deadline,
    Gate,
    Lookups,
    PinnedBackend,
    Resolve,
    resolve_name,
)
from shared.outbound.url import Target

HEAD_BYTES: Final = 16 * 1024
"""What an answer's status line and headers may take on top of `max_bytes`."""

FRAMING_SHARE: Final = 8  # Chunks of 50 bytes would still fit their lengths into this part.
MAX_REDIRECTS: Final = 4
REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})


@dataclass(frozen=True)
class Answer:
    """What came back: header names in lower case, the body as sent and cut at `max_bytes`."""

    status_code: int
    headers: Mapping[str, str]
    excerpt: bytes


class Outbound:
    """Requests on a client's behalf: to public addresses only, and in time.

    Each connection resolves its host once, goes to that address and no other, and verifies TLS
    by the host's name. A request has ended after `deadline`: lookups, connects, redirects and
    answers together. `closed_ports` are closed everywhere, `inner_ports` inside the allowed
    networks: others' public hosts may use the same numbers. Proxies of the environment are not
    used, since they would do their own lookup.
    """

    def __init__(
        self,
        allow: Sequence[Network],
        *,
        deadline: timedelta,
        max_bytes: int,
        closed_ports: Collection[int] = (),
        inner_ports: Collection[int] = (),
        resolve: Resolve = resolve_name,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._deadline = deadline
        self._max_bytes = max_bytes
        self._closed_ports = closed_ports
        self._gate = Gate(allow, inner_ports)
        self._lookups = Lookups(resolve)
        self._tls = tls or httpx2.create_ssl_context()

    @property
    def deadline(self) -> timedelta:
        return self._deadline

    def check(self, url: str) -> None:
        """Judge where a URL leads today, without connecting; each request judges it anew.

        Raises:
            OutboundRefused: as `post`.
            OutboundFailed: its host does not resolve.
        """
        target = self._open_port(Target.parse(url))
        deadline = Deadline(self._deadline)
        addresses = self._lookups.addresses(target.host, target.port, deadline)
        self._gate.judge(target.host, target.port, addresses)

    def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        """Send a body and return the answer, whatever its status; no redirect is followed.

        Raises:
            OutboundRefused: the URL or the address behind it is none that a client may name.
            OutboundFailed: no answer: the network, TLS, the receiver or the deadline.
        """
        target = self._open_port(Target.parse(url))
        request = build_request("POST", target, headers, body)
        max_bytes = HEAD_BYTES + self._max_bytes
        with self._response(request, target, Deadline(self._deadline), max_bytes) as response:
            return self._read(response)

    def fetch(self, url: str, *, accept: str) -> bytes:
        """Return the whole of what a GET brings, at most `max_bytes`.

        Up to MAX_REDIRECTS redirects are followed; each is parsed, judged and connected to as
        if the client had given it.

        Args:
            accept: the media types asked for; what comes may be anything.

        Raises:
            OutboundRefused: as `post`, for every hop; or too many of them.
            UnusableAnswer: the last answer is no 200, or is compressed although we take none.
            AnswerTooLarge: there is more than `max_bytes`.
            OutboundFailed: as `post`.
        """
        target = self._open_port(Target.parse(url))
        deadline = Deadline(self._deadline)
        max_bytes = HEAD_BYTES + self._max_bytes + self._max_bytes // FRAMING_SHARE
        for _ in range(1 + MAX_REDIRECTS):
            request = build_request("GET", target, {"Accept": accept}, None)
            with self._response(request, target, deadline, max_bytes) as response:
                location = location_of(response)
                if location is None:
                    return self._whole(response, target)
            target = self._open_port(target.following(location))
        raise TooManyRedirects(
            f"there are more than {MAX_REDIRECTS} redirects; give the URL they end at"
        )

    def _open_port(self, target: Target) -> Target:
        # Where an operator allows a network of its own, our database may stand in it too.
        if target.port in self._closed_ports:
            raise OutboundRefused(f"port {target.port} is closed to requests from here")
        return target

    @contextlib.contextmanager
    def _response(
        self, request: httpcore2.Request, target: Target, deadline: Deadline, max_bytes: int
    ) -> Iterator[httpcore2.Response]:
        backend = PinnedBackend(
            self._lookups, gate=self._gate, deadline=deadline, max_bytes=max_bytes
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

    def _read(self, response: httpcore2.Response) -> Answer:
        excerpt = bytearray()
        # The status is what counts: a body that is cut, late or too long is only a shorter one.
        with contextlib.suppress(OutboundFailed, httpcore2.ProtocolError):
            for chunk in response.iter_stream():
                excerpt += chunk
                if len(excerpt) >= self._max_bytes:
                    break
        return Answer(
            status_code=response.status,
            headers={
                name.decode("latin-1").lower(): value.decode("latin-1")
                for name, value in response.headers
            },
            excerpt=bytes(excerpt[: self._max_bytes]),
        )

    def _whole(self, response: httpcore2.Response, target: Target) -> bytes:
        if response.status != 200:
            raise UnusableAnswer(f"{target.host} answered {response.status} in place of 200")
        if header_of(response, b"content-encoding") not in (None, b"", b"identity"):
            raise UnusableAnswer(f"{target.host} answered with a Content-Encoding; send none")
        too_large = AnswerTooLarge(
            f"{target.host} sends more than {self._max_bytes} bytes, which is the limit"
        )
        if int(header_of(response, b"content-length") or 0) > self._max_bytes:
            raise too_large
        body = bytearray()
        try:
            for chunk in response.iter_stream():
                body += chunk
                if len(body) > self._max_bytes:
                    raise too_large
        except httpcore2.ProtocolError as error:
            raise OutboundFailed(f"{target.host} ended its answer in the middle") from error
        return bytes(body)


def build_request(
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
            # What comes is read as it is sent: nothing here unpacks a bomb.
            ("Accept-Encoding", "identity"),
            ("Connection", "close"),
            *length.items(),
            *headers.items(),
        ],
        content=body,
    )


def location_of(response: httpcore2.Response) -> str | None:
    """Return where a redirect points, None where the answer is none."""
    if response.status not in REDIRECTS:
        return None
    location = header_of(response, b"location")
    return None if location is None else location.decode("utf-8", "replace")


def header_of(response: httpcore2.Response, name: bytes) -> bytes | None:
    values = (value for key, value in response.headers if key.lower() == name)
    return next(values, None)
