"""The one way in: everything needs a caller but what is listed here, and bodies wait outside."""

from typing import Final

import structlog
from starlette.types import ASGIApp, Receive, Scope, Send

from api.problems import problem_response
from shared.errors import AppError

PUBLIC: Final = frozenset(
    {"/", "/livez", "/readyz", "/metrics", "/openapi.json", "/docs", "/docs/start.js"}
)
PUBLIC_FOLDER: Final = "/docs/ui/"


class Gate:
    """Asks who is there before a byte of the body is read; a new route is closed by default."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or is_public(scope["path"]):
            await self._app(scope, receive, send)
            return
        try:
            caller = await scope["app"].state.ports.doorman.caller(scope)
        except AppError as error:
            await problem_response(error, scope)(scope, receive, send)
            return
        scope["state"]["caller"] = caller
        with structlog.contextvars.bound_contextvars(caller=caller.name):
            await self._app(scope, receive, send)


def is_public(path: str) -> bool:
    return path in PUBLIC or path.startswith(PUBLIC_FOLDER)
