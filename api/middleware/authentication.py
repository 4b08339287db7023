"""The one way in: everything needs a caller but what is listed here, and bodies wait outside."""

from typing import Final

import structlog
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.auth.anonymous import peer_address
from api.auth.rate_limit import Rates
from api.problems import problem_response
from shared.errors import AppError, LinkRefused, RateLimited, Unauthenticated

PUBLIC: Final = frozenset(
    {"/", "/admin", "/livez", "/readyz", "/metrics", "/openapi.json", "/docs", "/docs/start.js"}
)
PUBLIC_FOLDERS: Final = ("/docs/ui/", "/web/")

KEY_HEADER: Final = "Stillreel-Key"
KEY_IGNORED: Final = "ignored; this gateway has no API keys yet, and answers without"


class Authentication:
    """Asks who is there before a byte of the body is read; a new route is closed by default."""

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
        """Return what to answer: who is refused too often hears that instead."""
        if isinstance(error, Unauthenticated | LinkRefused):
            try:
                self._rates.count_refusal(peer_address(scope))
            except RateLimited as too_often:
                return too_often
        return error


def _telling_of_the_key(send: Send) -> Send:
    """Return a `send` whose answer says that the key it came with was not looked at."""

    async def tell(message: Message) -> None:
        if message["type"] == "http.response.start":
            MutableHeaders(scope=message)[KEY_HEADER] = KEY_IGNORED
        await send(message)

    return tell


def is_public(path: str) -> bool:
    return path in PUBLIC or path.startswith(PUBLIC_FOLDERS)
