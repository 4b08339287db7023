"""The cookie of a session's token: no script can read it, no other site's page can send it.

Over https it is a `__Host-` cookie, which no other name of the domain can set or replace.
"""

from datetime import timedelta
from typing import Final
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import Scope

from shared.settings import Settings

NAME: Final = "stillreel_session"
SECURE_NAME: Final = f"__Host-{NAME}"
MOST_CHARACTERS: Final = 200
"""The longest token that is read; ours have 64 characters."""


def read_token(scope: Scope, settings: Settings) -> str | None:
    """Return the token of a request, or None if it has none, or two."""
    wanted = _name(scope, settings)
    pairs = [
        pair.strip().partition("=")
        for header in Headers(scope=scope).getlist("cookie")
        for pair in header.split(";")
    ]
    found = [value for name, _, value in pairs if name == wanted]
    return found[0] if len(found) == 1 and 0 < len(found[0]) <= MOST_CHARACTERS else None


def keep_token(
    response: Response, scope: Scope, settings: Settings, token: str, *, lives: timedelta
) -> None:
    """Make the browser of this request keep this token; an empty token deletes the cookie."""
    response.set_cookie(
        _name(scope, settings),
        token,
        max_age=int(lives.total_seconds()),
        path="/",
        secure=_is_https(scope, settings),
        httponly=True,
        samesite="strict",
    )


def _name(scope: Scope, settings: Settings) -> str:
    return SECURE_NAME if _is_https(scope, settings) else NAME


def _is_https(scope: Scope, settings: Settings) -> bool:
    """Say whether the browser uses https, to us or to the proxy that PUBLIC_URL names."""
    public = urlsplit(settings.public_url or "")
    is_public = Headers(scope=scope).get("host", "").lower() == public.netloc.lower()
    return scope["scheme"] == "https" or (public.scheme == "https" and is_public)
