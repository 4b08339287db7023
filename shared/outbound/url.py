"""A client's URL, parsed once, so that the checked target is the one that is asked."""

import re
from dataclasses import dataclass
from typing import Final, Self

import httpx2

from shared.outbound.errors import InvalidUrl, OutboundRefused

PORTS: Final = {"http": 80, "https": 443}
LOWEST_OTHER_PORT: Final = 1024
"""Below this only ports 80 and 443 are allowed, because mail, shells and shared folders listen
there."""

# A name that needs quoting, or an IPv6 zone, is never a public host.
_HOST: Final = re.compile(r"[a-z0-9._-]{1,253}|[0-9a-f:.]{2,45}")
_EXAMPLE: Final = "like https://example.org/path"


@dataclass(frozen=True)
class Target:
    """The target of a request; its address is not known yet."""

    scheme: str
    host: str
    port: int
    authority: str
    path: str

    @classmethod
    def parse(cls, url: str) -> Self:
        """Return the target of a URL; its address is checked later, when it is connected to.

        Raises:
            InvalidUrl: it is not a plain http or https URL.
        """
        try:
            parsed = httpx2.URL(url)
        except (httpx2.InvalidURL, ValueError) as error:
            raise InvalidUrl(f"this is not a URL, {_EXAMPLE}") from error
        host = parsed.raw_host.decode("ascii").lower()
        if parsed.scheme not in PORTS:
            raise InvalidUrl("a URL begins with https:// or http://")
        if parsed.userinfo:
            raise InvalidUrl("a URL carries no user name or password; use its path or query")
        port = PORTS[parsed.scheme] if parsed.port is None else parsed.port
        if not _HOST.fullmatch(host) or not 0 < port < 65536:
            raise InvalidUrl(f"a URL names a host, {_EXAMPLE}")
        if port not in PORTS.values() and port < LOWEST_OTHER_PORT:
            raise InvalidUrl(
                f"port {port} is not allowed; use 80, 443 or one from {LOWEST_OTHER_PORT} up"
            )
        return cls(
            scheme=parsed.scheme,
            host=host,
            port=port,
            authority=parsed.netloc.decode("ascii"),
            path=parsed.raw_path.decode("ascii"),
        )

    def following(self, location: str) -> Self:
        """Return the target of a redirect from here, parsed like any URL.

        Raises:
            InvalidUrl: the target is not a plain http or https URL.
            OutboundRefused: it leads from https to http.
        """
        here = f"{self.scheme}://{self.authority}{self.path}"
        try:
            there = str(httpx2.URL(here).join(location))
        except (httpx2.InvalidURL, ValueError) as error:
            raise InvalidUrl(f"{self.host} redirects to what is not a URL") from error
        target = self.parse(there)
        if (self.scheme, target.scheme) == ("https", "http"):
            raise OutboundRefused(
                f"{self.host} redirects from https to http; give a URL that stays on https"
            )
        return target
