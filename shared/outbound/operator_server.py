"""Requests to a server that the operator named in the settings, with the key that it asks for."""

import contextlib
import json
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, Final

import httpcore2
import httpx2

from shared.outbound.client import HEAD_BYTES, build_request, header_of
from shared.outbound.errors import AnswerTooLarge, OutboundFailed
from shared.outbound.pinned_connection import (
    Deadline,
    Lookups,
    NamedByOperator,
    PinnedBackend,
    Resolve,
    resolve_name,
)
from shared.outbound.url import Target

ANSWER_BYTES: Final = 256 * 1024
SENDING: Final = "http11.send_request_headers.started"
ANSWER_SECONDS: Final = timedelta(seconds=50)


@dataclass(frozen=True)
class ServerAnswer:
    """What a server said: header names in lower case, the whole body."""

    status_code: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """Return the body as JSON.

        Raises:
            ValueError: it is none.
        """
        return json.loads(self.body)

    @property
    def retry_after_seconds(self) -> int | None:
        """When to ask again, where the server said so in seconds."""
        told = self.headers.get("retry-after", "")
        return int(told) if told.isascii() and told.isdigit() and len(told) < 7 else None


class NotSent(OutboundFailed):
    """No answer, and it is known that nothing of the request went out."""


class OperatorServer:
    """One server: its very host and port may be anywhere, and nothing else is connected to.

    No redirect is followed: the headers of each request, among which is the key, go to this
    server alone. A request has ended after `ANSWER_SECONDS`.
    """

    def __init__(
        self,
        base_url: str,
        headers: Mapping[str, str],
        *,
        resolve: Resolve = resolve_name,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """`headers` go with each request; they are shown by nothing here.

        Raises:
            InvalidUrl: the address is none.
        """
        self._target = Target.parse(base_url)
        self._headers = dict(headers)
        self._lookups = Lookups(resolve)
        self._tls = tls or httpx2.create_ssl_context()

    @property
    def authority(self) -> str:
        return self._target.authority

    def ask(
        self, method: str, path: str, *, body: Any = None, headers: Mapping[str, str] | None = None
    ) -> ServerAnswer:
        """Send a request below the base address, with `body` as JSON, and return the answer.

        Raises:
            NotSent: no connection; nothing was asked.
            OutboundFailed: no answer, or none that ended in time. It may have been heard.
        """
        content = None if body is None else json.dumps(body).encode()
        told = {"Accept": "application/json", **self._headers, **(headers or {})}
        if content is not None:
            told["Content-Type"] = "application/json"
        target = replace(self._target, path=f"{self._target.path.rstrip('/')}{path}")
        request = build_request(method, target, told, content)
        backend = PinnedBackend(
            self._lookups,
            gate=NamedByOperator(()),
            deadline=Deadline(ANSWER_SECONDS),
            max_bytes=HEAD_BYTES + 2 * ANSWER_BYTES,
        )
        connection = httpcore2.HTTPConnection(
            request.url.origin, ssl_context=self._tls, network_backend=backend
        )
        begun: list[str] = []
        request.extensions["trace"] = lambda event, _: begun.append(event)
        with contextlib.closing(connection):
            try:
                return _whole(connection.handle_request(request), target)
            except httpcore2.ProtocolError as error:
                raise OutboundFailed(f"{target.host} did not answer in HTTP") from error
            except OutboundFailed as error:
                if SENDING not in begun:
                    raise NotSent(error.message) from error
                raise


def _whole(response: httpcore2.Response, target: Target) -> ServerAnswer:
    too_large = AnswerTooLarge(f"{target.host} answered with more than {ANSWER_BYTES} bytes")
    if int(header_of(response, b"content-length") or 0) > ANSWER_BYTES:
        raise too_large
    body = bytearray()
    for chunk in response.iter_stream():
        body += chunk
        if len(body) > ANSWER_BYTES:
            raise too_large
    headers = {
        name.decode("latin-1").lower(): value.decode("latin-1") for name, value in response.headers
    }
    return ServerAnswer(response.status, headers, bytes(body))
