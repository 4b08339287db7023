"""The only door for outgoing HTTP: it checks and pins the address it connects to."""

import contextlib
import re
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Self

import httpcore2
import httpx2

from shared.addresses import Network
from shared.errors import OutboundFailed, OutboundRefused
from shared.pinned import (
    Deadline,
    Lookups,
    PinnedBackend,
    Resolve,
    refuse_private,
    resolve_name,
)

PORTS: Final = {"http": 80, "https": 443}
HEAD_BYTES: Final = 16 * 1024
"""What an answer's status line and headers may take on top of `max_bytes`."""

# A name that needs quoting, or an IPv6 zone, is never a public host.
_HOST: Final = re.compile(r"[a-z0-9._-]{1,253}|[0-9a-f:.]{2,45}")


@dataclass(frozen=True)
class Target:
    """A URL taken apart once, so that what is checked is what is asked for."""

    scheme: str
    host: str
    port: int
    authority: str
    path: str

    @classmethod
    def parse(cls, url: str) -> Self:
        """Return where a URL leads; its address is judged later, when it is connected to.

        Raises:
            OutboundRefused: it is no plain http or https URL.
        """
        try:
            parsed = httpx2.URL(url)
        except httpx2.InvalidURL as error:
            raise OutboundRefused("this is not a URL, like https://example.org/hook") from error
        host = parsed.raw_host.decode("ascii")
        if parsed.scheme not in PORTS:
            raise OutboundRefused("a URL begins with https:// or http://")
        if parsed.userinfo:
            raise OutboundRefused("a URL carries no user name or password; use its path or query")
        port = PORTS[parsed.scheme] if parsed.port is None else parsed.port
        if not _HOST.fullmatch(host) or not 0 < port < 65536:
            raise OutboundRefused("a URL names a host, like https://example.org/hook")
        return cls(
            scheme=parsed.scheme,
            host=host,
            port=port,
            authority=parsed.netloc.decode("ascii"),
            path=parsed.raw_path.decode("ascii"),
        )


@dataclass(frozen=True)
class Answer:
    """What came back: header names in lower case, the body as sent and cut at `max_bytes`."""

    status_code: int
    headers: Mapping[str, str]
    excerpt: bytes


class Outbound:
    """Requests on a client's behalf: to public addresses only, without redirects, in time.

    A request resolves its host once, connects to that address and no other, verifies TLS by
    the host's name, and has ended after `deadline`: lookup, connect, send and answer together.
    Proxies of the environment are not used, since they would do their own lookup.
    """

    def __init__(
        self,
        allow: Sequence[Network],
        *,
        deadline: timedelta,
        max_bytes: int,
        resolve: Resolve = resolve_name,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._allow = allow
        self._deadline = deadline
        self._max_bytes = max_bytes
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
        target = Target.parse(url)
        deadline = Deadline(self._deadline)
        addresses = self._lookups.addresses(target.host, target.port, deadline)
        refuse_private(target.host, addresses, self._allow)

    def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        """Send a body and return the answer, whatever its status.

        Raises:
            OutboundRefused: the URL or the address behind it is none that a client may name.
            OutboundFailed: no answer: the network, TLS, the receiver or the deadline.
        """
        target = Target.parse(url)
        deadline = Deadline(self._deadline)
        request = httpcore2.Request(
            "POST",
            httpcore2.URL(
                scheme=target.scheme, host=target.host, port=target.port, target=target.path
            ),
            headers=[
                ("Host", target.authority),
                ("User-Agent", "Stillreel"),
                # The excerpt is read as it comes: nothing here unpacks a bomb.
                ("Accept-Encoding", "identity"),
                ("Connection", "close"),
                ("Content-Length", str(len(body))),
                *headers.items(),
            ],
            content=body,
        )
        with contextlib.closing(self._connection(request, deadline)) as connection:
            try:
                response = connection.handle_request(request)
            except httpcore2.ProtocolError as error:
                raise OutboundFailed(f"{target.host} did not answer in HTTP") from error
            return self._read(response)

    def _connection(
        self, request: httpcore2.Request, deadline: Deadline
    ) -> httpcore2.HTTPConnection:
        backend = PinnedBackend(
            self._lookups,
            allow=self._allow,
            deadline=deadline,
            max_bytes=HEAD_BYTES + self._max_bytes,
        )
        return httpcore2.HTTPConnection(
            request.url.origin, ssl_context=self._tls, network_backend=backend
        )

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
