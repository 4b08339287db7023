"""The address of the service, and the key for requests to it."""

import ipaddress
import os
from dataclasses import dataclass, field
from typing import Final, Self
from urllib.parse import urlsplit

from stillreel.errors import WrongAddress

DEFAULT_URL: Final = "http://127.0.0.1:7860"


@dataclass(frozen=True)
class Address:
    """An installation of Stillreel as this caller reaches it; its repr does not show the key."""

    url: str
    key: str | None = field(repr=False)

    @classmethod
    def given(cls, url: str | None = None, key: str | None = None) -> Self:
        """Return what is given, else STILLREEL_URL and STILLREEL_KEY, else this machine, no key.

        Raises:
            WrongAddress: the address is not one of HTTP, or the key cannot be sent.
        """
        url = (url or os.environ.get("STILLREEL_URL") or DEFAULT_URL).strip()
        key = (key or os.environ.get("STILLREEL_KEY") or "").strip()
        try:
            parts = urlsplit(url)
            is_usable = parts.scheme in ("http", "https") and bool(parts.hostname)
            is_usable = is_usable and (parts.port is None or parts.port > 0)
        except ValueError:
            is_usable = False
        if not is_usable or parts.query or parts.fragment:
            raise WrongAddress(
                f"{url!r} is not an address of Stillreel; set STILLREEL_URL to one like"
                f" {DEFAULT_URL} or https://video.example.org"
            )
        if not (key.isascii() and key.isprintable()) or " " in key:
            raise WrongAddress("the key has characters that no key has; check STILLREEL_KEY")
        return cls(url.rstrip("/"), key or None)

    @property
    def is_this_machine(self) -> bool:
        """Whether the address is this machine, which no proxy of the environment can reach."""
        host = urlsplit(self.url).hostname or ""
        try:
            return ipaddress.ip_address(host).is_loopback
        except ValueError:
            return host == "localhost" or host.endswith(".localhost")
