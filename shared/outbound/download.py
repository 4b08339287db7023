"""Files behind links that others gave: judged as any client's URL is, written as they come."""

import contextlib
import ssl
from collections.abc import Callable, Collection, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Final

import httpcore2
import httpx2

from shared.outbound.address_rules import Network
from shared.outbound.client import (
    HEAD_BYTES,
    MAX_REDIRECTS,
    build_request,
    header_of,
    location_of,
)
from shared.outbound.errors import (
    AnswerTooLarge,
    OutboundFailed,
    OutboundRefused,
    TooManyRedirects,
    UnusableAnswer,
)
from shared.outbound.pinned_connection import (
    Gate,
    Lookups,
    PinnedBackend,
    Resolve,
    StallDeadline,
    resolve_name,
)
from shared.outbound.url import Target

LONGEST: Final = timedelta(minutes=20)
STALL: Final = timedelta(seconds=60)
CHUNK_BYTES: Final = 1024 * 1024

OnBytes = Callable[[int, int | None], None]
"""Told how many bytes have come, of how many if that is known; may raise to stop."""


class WrongType(UnusableAnswer):
    """What came says of itself that it is something else."""

    code = "wrong_content_type"


class LinkGone(UnusableAnswer):
    """The link is over, or leads to nothing: 401, 403, 404 or 410."""

    code = "link_gone"


class Downloads:
    """Fetches whole files over links, as `Outbound` does with what is small.

    Each hop is judged and connected to as if a client had given it. A transfer ends after
    `LONGEST`, or when nothing comes for `STALL`.
    """

    def __init__(
        self,
        allow: Sequence[Network],
        *,
        closed_ports: Collection[int] = (),
        inner_ports: Collection[int] = (),
        resolve: Resolve = resolve_name,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._gate = Gate(allow, inner_ports)
        self._closed_ports = closed_ports
        self._lookups = Lookups(resolve)
        self._tls = tls or httpx2.create_ssl_context()

    def fetch(
        self, url: str, into: Path, *, types: Collection[str], max_bytes: int, on_bytes: OnBytes
    ) -> None:
        """Write what is behind a link to a file.

        Args:
            types: the media types that it may be.

        Raises:
            OutboundRefused: the link, or where it leads, is none that a client may name.
            LinkGone, WrongType, AnswerTooLarge, UnusableAnswer: as they say.
            OutboundFailed: no answer, or it ended in the middle; again may help.
        """
        target = self._open_port(Target.parse(url))
        deadline = StallDeadline(LONGEST, stall=STALL)
        for _ in range(1 + MAX_REDIRECTS):
            backend = PinnedBackend(
                self._lookups,
                gate=self._gate,
                deadline=deadline,
                max_bytes=HEAD_BYTES + max_bytes + max_bytes // 8,
            )
            request = build_request("GET", target, {"Accept": ", ".join(types)}, None)
            connection = httpcore2.HTTPConnection(
                request.url.origin, ssl_context=self._tls, network_backend=backend
            )
            with contextlib.closing(connection):
                try:
                    response = connection.handle_request(request)
                    location = location_of(response)
                    if location is None:
                        _check(response, target, types)
                        return _write(response, target, into, max_bytes, on_bytes)
                except httpcore2.ProtocolError as error:
                    raise OutboundFailed(f"{target.host} did not answer in HTTP") from error
            target = self._open_port(target.following(location))
        raise TooManyRedirects(f"there are more than {MAX_REDIRECTS} redirects")

    def _open_port(self, target: Target) -> Target:
        if target.port in self._closed_ports:
            raise OutboundRefused(f"port {target.port} is closed to requests from here")
        return target


def _check(response: httpcore2.Response, target: Target, types: Collection[str]) -> None:
    if response.status in (401, 403, 404, 410):
        raise LinkGone(f"{target.host} answered {response.status}: the link is over")
    if response.status == 429 or response.status >= 500:
        raise OutboundFailed(f"{target.host} answered {response.status}")
    if response.status != 200:
        raise UnusableAnswer(f"{target.host} answered {response.status} in place of 200")
    told = (header_of(response, b"content-type") or b"").decode("latin-1")
    if told.partition(";")[0].strip().lower() not in types:
        raise WrongType(f"{target.host} sent {told[:60]!r} in place of {', '.join(types)}")


def _write(
    response: httpcore2.Response, target: Target, into: Path, max_bytes: int, on_bytes: OnBytes
) -> None:
    told = header_of(response, b"content-length")
    total = int(told) if told and told.isdigit() else None
    too_large = AnswerTooLarge(
        f"{target.host} sends more than {max_bytes} bytes, which is the limit"
    )
    if total is not None and total > max_bytes:
        raise too_large
    received = shown = 0
    with into.open("wb") as file:
        for chunk in response.iter_stream():
            received += len(chunk)
            if received > max_bytes:
                raise too_large
            file.write(chunk)
            if received - shown >= CHUNK_BYTES:
                shown = received
                on_bytes(received, total)
    on_bytes(received, total)
