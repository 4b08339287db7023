"""The ways out to a provider: its API with the key, and the links that it gives without it."""

from collections.abc import Mapping

from shared.outbound.download import Downloads
from shared.outbound.operator_server import OperatorServer
from shared.settings import Settings
from worker.engines.remote.hosted.api import HostedApi


def api_of(
    provider: str,
    url: str,
    *,
    headers: Mapping[str, str],
    secret: str,
    refusals: frozenset[int],
) -> HostedApi:
    return HostedApi(provider, OperatorServer(url, headers), secret=secret, refusals=refusals)


def downloads_of(settings: Settings) -> Downloads:
    """Return what follows a provider's links, by the rules of URLs that clients give."""
    return Downloads(
        settings.outbound_networks,
        closed_ports=settings.own_ports,
        inner_ports=settings.inner_ports,
    )
