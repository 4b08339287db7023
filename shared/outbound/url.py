"""A URL that a client gave, taken apart once, so that what is checked is what is asked for."""

import re
from dataclasses import dataclass
from typing import Final, Self

import httpx2

from shared.outbound.errors import InvalidUrl, OutboundRefused

PORTS: Final = {"http": 80, "https": 443}
LOWEST_OTHER_PORT: Final = 1024
"""Below it only the web's own two are asked: mail, shells and shared folders live there."""

# A name that needs quoting, or an IPv6 zone, is never a public host.
_HOST: Final = re.compile(r"[a-z0-9._-]{1,253}|[0-9a-f:.]{2,45}")
_EXAMPLE: Final = "like https://example.org/path"


@dataclass(frozen=True)
class Target:
    """Where a request goes; nothing is known of the address yet."""

    scheme: str
    host: str
    port: int
    authority: str
    path: str

    @classmethod
    def parse(cls, url: str) -> Self:
        """Return where a URL leads; its address is judged later, when it is connected to.

        Raises:
            InvalidUrl: it is no plain http or https URL.
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
        """Return where a redirect from here leads, parsed as any URL is.

        Raises:
            InvalidUrl: the redirect names no plain http or https URL.
            OutboundRefused: it leaves TLS.
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
