"""Lets pages of other origins call the API: none, until the settings name some."""

from typing import Final

from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware

METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
SENT: Final = (
    "Authorization",
    "Content-Type",
    "Idempotency-Key",
    "If-None-Match",
    "If-Range",
    "Last-Event-ID",
    "Prefer",
    "Range",
    "X-Request-ID",
)
"""Headers that a page may send beside the few that are always allowed."""

SHOWN: Final = (
    "Accept-Ranges",
    "Content-Disposition",
    "Content-Range",
    "ETag",
    "Idempotency-Replayed",
    "Location",
    "Preference-Applied",
    "Repr-Digest",
    "Retry-After",
    "Stillreel-Key",
    "X-Request-ID",
)
"""Headers that a page may read of an answer."""

PREFLIGHT_SECONDS: Final = 600


def cors(origins: tuple[str, ...]) -> tuple[Middleware, ...]:
    """Return the middleware for these origins' preflights; it never allows a session's cookie."""
    if not origins:
        return ()
    return (
        Middleware(
            CORSMiddleware,
            allow_origins=origins,
            allow_methods=METHODS,
            allow_headers=SENT,
            expose_headers=SHOWN,
            allow_credentials=False,
            max_age=PREFLIGHT_SECONDS,
        ),
    )
