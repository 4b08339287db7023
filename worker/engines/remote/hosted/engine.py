"""The common part of hosted models' engines: one provider, and a price in each job's plan."""

from typing import Final

from shared.engines.spec import EngineSpec
from worker.engines.base import Plan, RenderRequest
from worker.engines.remote.engine import RemoteEngine
from worker.engines.remote.provider import Provider

PRICE_USD: Final = "price_usd"


class HostedEngine(RemoteEngine):
    """Renders at a provider; the spec must name it."""

    def __init__(self, spec: EngineSpec, provider: Provider) -> None:
        assert spec.hosted is not None
        self._hosted = spec.hosted
        told = {"provider": self._hosted.provider, "remote_model": self._hosted.model}
        super().__init__(spec, [provider], told=told)

    def plan(self, request: RenderRequest) -> Plan:
        price = self._hosted.price_micros(request.parameters.seconds) / 1_000_000
        return {**super().plan(request), PRICE_USD: price}
