"""The log of requests: a request id, one count, one log line, and a 500 for unexpected errors."""

import re
import time
from typing import Final

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.body_limit import BodyLimit, declared_bytes
from api.monitoring.metrics import Traffic
from api.problems import problem_response
from shared.errors import AppError
from shared.excerpt import begin
from shared.ids import new_id

HEADER: Final = "X-Request-ID"
QUIET: Final = frozenset({"/livez", "/readyz", "/metrics"})
CLIENT_GONE: Final = 499

_GOOD_ID: Final = re.compile(r"[A-Za-z0-9._:-]{1,128}")

_log = structlog.get_logger(__name__)


class AnswerCut(Exception):
    """The rest of an answer that has begun is not available."""


class RequestLog:
    """Wraps all routes; no exception leaves it."""

    def __init__(self, app: ASGIApp, *, traffic: Traffic, largest_body: BodyLimit) -> None:
        self._app = app
        self._traffic = traffic
        self._largest_body = largest_body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = _request_id(scope)
        scope.setdefault("state", {})["request_id"] = request_id
        exchange = _Exchange(send, request_id)
        began = time.perf_counter()
        with structlog.contextvars.bound_contextvars(request_id=request_id):
            await self._serve(scope, receive, exchange)
            seconds = time.perf_counter() - began
            self._record(scope, exchange.status_code, seconds)

    async def _serve(self, scope: Scope, receive: Receive, exchange: "_Exchange") -> None:
        if declared_bytes(Headers(scope=scope)) > self._largest_body.bytes:
            # Nobody may send so much, so it is refused before the caller is looked up.
            answer = problem_response(self._largest_body.refusal(), scope)
            await answer(scope, receive, exchange.send)
            return
        try:
            await self._app(scope, receive, exchange.send)
        except ClientDisconnect:
            exchange.status_code = CLIENT_GONE
        except AnswerCut as error:
            # The server closes the connection of an answer that is left incomplete, so that
            # the client sees it was cut.
            _log.warning("answer_cut", reason=str(error))
        except Exception:
            _log.exception("request_failed", path=begin(scope["path"]))
            if exchange.has_started:
                return
            answer = problem_response(
                AppError("something went wrong here; the request id finds it in the log"), scope
            )
            await answer(scope, receive, exchange.send)

    def _record(self, scope: Scope, status: int, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", "unmatched")
        self._traffic.record(scope["method"], route, status, seconds)
        log = _log.debug if route in QUIET else _log.info
        caller = scope["state"].get("caller")
        log(
            "request",
            method=scope["method"],
            route=route,
            caller=caller and caller.name,
            status=status,
            milliseconds=round(seconds * 1000, 1),
        )


class _Exchange:
    """The facts about an answer on its way out."""

    def __init__(self, send: Send, request_id: str) -> None:
        self._send = send
        self._request_id = request_id
        self.status_code = 500
        self.has_started = False

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status_code = message["status"]
            self.has_started = True
            MutableHeaders(scope=message)[HEADER] = self._request_id
        await self._send(message)


def _request_id(scope: Scope) -> str:
    """Return the client's own id if it is short and plain, else a fresh one."""
    given = Headers(scope=scope).get(HEADER, "")
    return given if _GOOD_ID.fullmatch(given) else f"req_{new_id().hex}"
