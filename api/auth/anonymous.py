"""Who may ask without a key while there is none: a program of this machine, and no web page.

A browser is everybody's: any page may have it send requests to loopback, and a page whose name
was rebound to 127.0.0.1 may even read the answers. So what is believed is the peer's address,
the name it used for us, and what browsers themselves say of the page that asks.
"""

import re
from collections.abc import Container
from ipaddress import IPv6Address, ip_address
from typing import Final
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import Scope

from shared.errors import CrossSiteRefused, HostRefused, MissingKey
from shared.settings import Settings

READING: Final = frozenset({"GET", "HEAD"})
FOREIGN: Final = frozenset({"cross-site", "same-site"})
PROXIED: Final = frozenset(
    {
        "forwarded",
        "via",
        "x-real-ip",
        "x-client-ip",
        "true-client-ip",
        "cf-connecting-ip",
        "cdn-loop",
    }
)
_HOST: Final = re.compile(r"([A-Za-z0-9_.-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}


def check_anonymous(scope: Scope, settings: Settings) -> None:
    """Let a request without a key pass, while there is no key.

    Raises:
        MissingKey: it came through a proxy, or from another machine.
        HostRefused: it was sent to a name that anybody may have pointed here.
        CrossSiteRefused: a page of another site sent it.
    """
    headers = Headers(scope=scope)
    _check_peer(scope, headers, settings)
    host = _check_host(headers, settings)
    ours = (f"{scope['scheme']}://{host}", settings.public_url or "", *settings.allowed_origins)
    _check_page(scope["method"], headers, {_origin(url) for url in ours} - {None})


def peer_address(scope: Scope) -> str:
    """Return where the connection comes from, which behind a proxy is the proxy."""
    return str((scope.get("client") or ("",))[0])


def is_loopback(address: str) -> bool:
    """Say whether an address is this machine's own; what is no address is not."""
    try:
        found = ip_address(address)
    except ValueError:
        return False
    mapped = found.ipv4_mapped if isinstance(found, IPv6Address) else None
    return (mapped or found).is_loopback


def _check_peer(scope: Scope, headers: Headers, settings: Settings) -> None:
    for name in headers:
        if name in PROXIED or name.startswith("x-forwarded"):
            raise MissingKey(
                f"this came through a proxy ({name}), behind which nobody is anonymous; send an"
                " API key, which `python -m api keys create NAME` makes"
            )
    if not settings.allow_anonymous and not is_loopback(peer_address(scope)):
        raise MissingKey(
            "without a key only this machine itself is answered; send an API key, which"
            " `python -m api keys create NAME` makes"
        )


def _check_host(headers: Headers, settings: Settings) -> str:
    """Return the one Host, if it is an address or a name that the web's DNS does not give out."""
    given = headers.getlist("host")
    match = _HOST.fullmatch(given[0]) if len(given) == 1 else None
    if match is None:
        raise HostRefused("the Host header is missing or malformed; send one, like 127.0.0.1:7860")
    name = match[1].lower().removesuffix(".")
    public = urlsplit(settings.public_url or "").hostname
    if not (_is_address(name) or "." not in name or name.endswith(".localhost") or name == public):
        raise HostRefused(
            f"the name {name} may have been pointed here by anybody; use an address or"
            f" localhost, send an API key, or set STILLREEL_PUBLIC_URL=http://{given[0]}"
        )
    return given[0]


def _check_page(method: str, headers: Headers, named: Container[object]) -> None:
    """Refuse what a browser says another site's page asks for; other clients say nothing.

    A link that somebody follows is let through: the page it stands on cannot read the answer.
    """
    origin = headers.get("origin")
    if origin is not None:
        if _origin(origin) in named:
            return
        raise CrossSiteRefused(
            f"a page of {origin[:100]} asked for this without an API key, which only pages of this"
            " gateway may; STILLREEL_CORS_ORIGINS names others"
        )
    if headers.get("sec-fetch-site", "").strip().lower() not in FOREIGN:
        return
    is_link = (
        method in READING
        and headers.get("sec-fetch-mode") == "navigate"
        and headers.get("sec-fetch-dest") == "document"
    )
    if not is_link:
        raise CrossSiteRefused(
            "a page of another site asked for this without an API key, which only pages of this"
            " gateway may"
        )


def _origin(url: str) -> tuple[str, str, int | None] | None:
    """Return scheme, host and port of a URL, or None of what is none, such as `null`."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return None
    if not parts.scheme or not parts.hostname:
        return None
    return parts.scheme, parts.hostname, port or _DEFAULT_PORTS.get(parts.scheme)


def _is_address(name: str) -> bool:
    try:
        ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True
