"""Proxies of the environment: used for the internet, never for our own servers or this machine."""

from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

from shared.server_urls import postgres_servers
from shared.settings import Settings

_NAMES: Final = frozenset({"http_proxy", "https_proxy", "ftp_proxy", "all_proxy"})
_EXCEPT: Final = "no_proxy"
LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")


def without_proxies(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment for a process that needs no connection to the internet."""
    hidden = _NAMES | {_EXCEPT}
    return {name: value for name, value in environment.items() if name.lower() not in hidden}


def sparing_own_servers(environment: Mapping[str, str], settings: Settings) -> dict[str, str]:
    """Return the settings for a process that may download: its proxy is used for other hosts."""
    urls = (settings.s3_endpoint, settings.redis_url.get_secret_value())
    own = [host for url in urls if (host := _host(url))]
    own += postgres_servers(settings.database_url.get_secret_value())[0]
    given = [environment.get(name, "") for name in (_EXCEPT.upper(), _EXCEPT)]
    spared = [part.strip() for part in ",".join(given).split(",")]
    listed = ",".join(dict.fromkeys(filter(None, [*spared, *LOOPBACK, *own])))
    return {_EXCEPT: listed, _EXCEPT.upper(): listed}


def _host(url: str) -> str | None:
    try:
        return urlsplit(url).hostname
    except ValueError:
        return None  # The server's driver reads more spellings than this does.
