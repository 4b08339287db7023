"""The one entrance: each path but those listed needs a caller, found before the body is read."""

from typing import Final

import structlog
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.auth.anonymous import peer_address
from api.auth.caller import Caller
from api.auth.rate_limit import Rates
from api.problems import problem_response
from shared.errors import AppError, RateLimited
from shared.errors.access import LinkRefused, ReadOnlyKey, Unauthenticated

PUBLIC: Final = frozenset(
    {"/", "/admin", "/livez", "/readyz", "/metrics", "/openapi.json", "/docs", "/docs/start.js"}
)
PUBLIC_FOLDERS: Final = ("/docs/ui/", "/web/")

READS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
SIGN_IN: Final = frozenset({"/v1/session"})
"""A caller that may only read may still sign in and out."""

KEY_HEADER: Final = "Stillreel-Key"
KEY_IGNORED: Final = "ignored; this gateway has no API keys yet, and answers without"


class Authentication:
    """Finds the caller before a byte of the body is read; a new route is closed by default."""

    def __init__(self, app: ASGIApp, *, rates: Rates) -> None:
        self._app = app
        self._rates = rates

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or is_public(scope["path"]):
            await self._app(scope, receive, send)
            return
        try:
            caller = await scope["app"].state.ports.authenticator.caller(scope)
            self._rates.count_caller(caller.name)
            _check_may_write(caller, scope)
        except AppError as error:
            refusal = self._refusal(error, scope)
            await problem_response(refusal, scope)(scope, receive, send)
            return
        scope["state"]["caller"] = caller
        if caller.is_key_ignored:
            send = _telling_of_the_key(send)
        with structlog.contextvars.bound_contextvars(caller=caller.name):
            await self._app(scope, receive, send)

    def _refusal(self, error: AppError, scope: Scope) -> AppError:
        """Return the error to answer; a sender that is refused too often gets a 429 instead."""
        if isinstance(error, Unauthenticated | LinkRefused):
            try:
                self._rates.count_refusal(peer_address(scope))
            except RateLimited as too_often:
                return too_often
        return error


def _check_may_write(caller: Caller, scope: Scope) -> None:
    """Raise ReadOnlyKey if a key that may only read asks to change something."""
    if caller.is_read_only and scope["method"] not in READS and scope["path"] not in SIGN_IN:
        raise ReadOnlyKey(
            f"your key may only read, and this is a {scope['method']}; ask an admin for another"
        )


def _telling_of_the_key(send: Send) -> Send:
    """Return a `send` whose answer says that the key of the request was ignored."""

    async def tell(message: Message) -> None:
        if message["type"] == "http.response.start":
            MutableHeaders(scope=message)[KEY_HEADER] = KEY_IGNORED
        await send(message)

    return tell


def is_public(path: str) -> bool:
    return path in PUBLIC or path.startswith(PUBLIC_FOLDERS)
