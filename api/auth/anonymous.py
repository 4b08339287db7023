"""Callers without a key while there is none: programs of this machine, and no web page.

Any page may have a browser send requests to loopback, and a page whose name was rebound to
127.0.0.1 may even read the answers. So this module trusts only the address of the peer, and the
browser headers that `check_cross_site` trusts.
"""

from ipaddress import IPv6Address, ip_address
from typing import Final

from starlette.datastructures import Headers
from starlette.types import Scope

from api.auth.cross_site import check_cross_site
from shared.errors.access import MissingKey
from shared.excerpt import begin
from shared.settings import Settings

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


def check_anonymous(scope: Scope, settings: Settings) -> None:
    """Let a request without a key pass, while there is no key.

    Raises:
        MissingKey: it came through a proxy, or from another machine.
        HostRefused: the `Host` is a name that anybody may have pointed here.
        CrossSiteRefused: a page of another site sent it.
    """
    _check_peer(scope, Headers(scope=scope), settings)
    check_cross_site(scope, settings)


def peer_address(scope: Scope) -> str:
    """Return the address that the connection comes from; behind a proxy it is the proxy's."""
    return str((scope.get("client") or ("",))[0])


def is_loopback(address: str) -> bool:
    """Say whether an address is this machine's own; a text that is no address is not."""
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
                f"this came through a proxy ({begin(name)}), and such requests always need an API"
                " key; send one, which `python -m api keys create NAME` makes"
            )
    if not settings.allow_anonymous and not is_loopback(peer_address(scope)):
        raise MissingKey(
            "requests from other machines need an API key; send one, which"
            " `python -m api keys create NAME` makes"
        )
