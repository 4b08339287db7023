"""The connections to a provider: its API with the key, and the links it gives without the key."""

from datetime import timedelta
from typing import Final

from shared.outbound.client import Outbound
from shared.outbound.url import Target
from shared.settings import Settings
from worker.engines.remote.hosted.api import HeadersOf, HostedApi
from worker.engines.remote.hosted.key import ProviderKey

ANSWER_SECONDS: Final = timedelta(seconds=50)
ANSWER_BYTES: Final = 256 * 1024
FILM_SECONDS: Final = timedelta(minutes=20)
FILM_BYTES: Final = 256 * 1024 * 1024


def api_of(
    provider: str,
    url: str,
    *,
    headers: HeadersOf,
    key: ProviderKey,
    refusals: frozenset[int],
) -> HostedApi:
    """Return a provider's API at the very host and port of the settings, which may be private."""
    target = Target.parse(url)
    outbound = Outbound(
        (),
        deadline=ANSWER_SECONDS,
        max_bytes=ANSWER_BYTES,
        only=(target.host, target.port),
    )
    return HostedApi(provider, outbound, url, headers=headers, key=key, refusals=refusals)


def films_of(settings: Settings, *, max_bytes: int = FILM_BYTES) -> Outbound:
    """Return the client for a provider's links, by the rules for clients' URLs."""
    return Outbound(
        settings.outbound_networks,
        deadline=FILM_SECONDS,
        max_bytes=max_bytes,
        closed_ports=settings.own_ports,
        inner_ports=settings.inner_ports,
    )
