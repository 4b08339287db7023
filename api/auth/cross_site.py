"""Requests that a web page may have caused: one rule for every caller without an API key.

A page of any site may have a browser send requests here, with the cookies and the network of its
user. But no page can add an API key. So a caller who is let in for another reason (no key while
there is none, a session's cookie, a login proxy's header) must pass this rule first. The rule
trusts what browsers say about the page that sends the request, and it is closed by default: a
doubled, misspelled or unknown value is refused like a foreign one.
"""

import re
from collections.abc import Container, Iterable
from ipaddress import ip_address
from typing import Final
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import Scope

from shared.errors.access import CrossSiteRefused, HostRefused
from shared.excerpt import begin
from shared.settings import Settings

READING: Final = frozenset({"GET", "HEAD"})
OURS: Final = frozenset({"same-origin", "none"})
"""Values of Sec-Fetch-Site: a page of this gateway, or an address that a user typed."""

FOREIGN: Final = frozenset({"cross-site", "same-site"})

_PORT: Final = r"(?::(?P<port>[1-9][0-9]{0,4}))?"
_HOST: Final = re.compile(rf"(?P<name>[A-Za-z0-9_.-]+|\[[0-9A-Fa-f:.]+\]){_PORT}")
_ORIGIN: Final = re.compile(
    rf"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?P<name>[A-Za-z0-9_.-]+|\[[0-9A-Fa-f:.]+\]){_PORT}"
)
_MOST_PORT: Final = 65535
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}

Origin = tuple[str, str, int | None]


def check_cross_site(scope: Scope, settings: Settings) -> None:
    """Let a request pass only if no page of another site can have caused it.

    Raises:
        HostRefused: the `Host` is a name that anybody may have pointed here.
        CrossSiteRefused: a page of another site sent it, or its headers do not say clearly which
            page did.
    """
    headers = Headers(scope=scope)
    host = _check_host(headers, settings)
    public = urlsplit(settings.public_url or "")
    ours = (f"{scope['scheme']}://{host}", f"{public.scheme}://{public.netloc}")
    site = _site(headers)
    origin = _one(headers, "origin")
    if origin is not None:
        _check_origin(origin, site, ours=_origins(ours), others=_origins(settings.allowed_origins))
    elif site in FOREIGN and not _is_link(scope["method"], headers):
        # A link that a user follows passes, because the page that has the link cannot read the
        # answer.
        raise CrossSiteRefused(
            "a page of another site asked for this without an API key, which only pages of this"
            " gateway may"
        )


def _check_host(headers: Headers, settings: Settings) -> str:
    """Return the one Host, if it is an address or a name that the public DNS does not have."""
    given = headers.getlist("host")
    match = _HOST.fullmatch(given[0]) if len(given) == 1 else None
    if match is None or int(match["port"] or 0) > _MOST_PORT:
        raise HostRefused("the Host header is missing or malformed; send one, like 127.0.0.1:7860")
    name = match["name"].lower().removesuffix(".")
    public = urlsplit(settings.public_url or "").hostname
    if not (_is_address(name) or "." not in name or name.endswith(".localhost") or name == public):
        raise HostRefused(
            f"the name {begin(name)} may have been pointed here by anybody; use an address or"
            f" localhost, send an API key, or set STILLREEL_PUBLIC_URL=http://{begin(given[0])}"
        )
    return given[0]


def _check_origin(
    origin: str, site: str | None, *, ours: Container[object], others: Container[object]
) -> None:
    """Refuse an origin that no setting names, and ours if a browser says that it is foreign."""
    asking = _origin(origin)
    if asking in others or (asking in ours and site not in FOREIGN):
        return
    raise CrossSiteRefused(
        f"a page of {origin[:100]} asked for this without an API key, which only pages of this"
        " gateway may; STILLREEL_CORS_ORIGINS names others"
    )


def _site(headers: Headers) -> str | None:
    site = _one(headers, "sec-fetch-site")
    if site is not None and site not in OURS | FOREIGN:
        raise CrossSiteRefused(
            f"Sec-Fetch-Site {site[:100]!r} is none that a browser sends"
            f" ({', '.join(sorted(OURS | FOREIGN))}); leave it out"
        )
    return site


def _one(headers: Headers, name: str) -> str | None:
    """Return a header that is sent at most once."""
    given = headers.getlist(name)
    if len(given) > 1:
        raise CrossSiteRefused(
            f"{name} is sent twice, so that nobody can tell which page asks; send one, or none"
        )
    return given[0] if given else None


def _is_link(method: str, headers: Headers) -> bool:
    return (
        method in READING
        and headers.getlist("sec-fetch-mode") == ["navigate"]
        and headers.getlist("sec-fetch-dest") == ["document"]
    )


def _origins(texts: Iterable[str]) -> set[Origin | None]:
    return {_origin(text) for text in texts} - {None}


def _origin(text: str) -> Origin | None:
    """Return scheme, host and port of an origin, or None if the text is not exactly one."""
    match = _ORIGIN.fullmatch(text)
    port = int(match["port"] or 0) if match else 0
    if match is None or port > _MOST_PORT:
        return None
    scheme = match["scheme"].lower()
    return scheme, match["name"].lower(), port or _DEFAULT_PORTS.get(scheme)


def _is_address(name: str) -> bool:
    try:
        ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True
