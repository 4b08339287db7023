"""Headers that every answer gives a browser: trust the type, load nothing, show it in no frame."""

from collections.abc import Mapping
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

NOTHING: Final = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
"""The policy of answers that are not pages."""

USUAL: Final[Mapping[str, str]] = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": NOTHING,
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}

_USUAL: Final = tuple((name.lower().encode(), value.encode()) for name, value in USUAL.items())

FILE_POLICY: Final = f"{NOTHING}; img-src 'self'; media-src 'self'; style-src 'unsafe-inline'"
"""If a browser opens a clip by its address, it plays the clip in a page of its own, and the
answer's policy applies to that page."""

ASSET: Final[Mapping[str, str]] = {"Cache-Control": "no-cache"}
"""For files of a page: the browser keeps them, and asks again by their ETag."""


def page(policy: str) -> dict[str, str]:
    """Return the headers of an HTML page that needs what `policy` allows beside `NOTHING`."""
    return {
        **ASSET,
        "Content-Security-Policy": f"{NOTHING}; {policy}",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    }


class SecurityHeaders:
    """The outermost layer: an answer's own headers win over the usual ones."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_safely(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = message["headers"]
                own = {name.lower() for name, _ in headers}
                message["headers"] = [*headers, *(one for one in _USUAL if one[0] not in own)]
            await send(message)

        await self._app(scope, receive, send_safely if scope["type"] == "http" else send)
