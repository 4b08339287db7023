"""The engine of entries like `pika=fal:fal-ai/pika/v2.2/image-to-video?usd_per_second=0.04`."""

from typing import Final

from shared.engines.entries import EngineEntry
from shared.settings import Settings
from worker.engines.remote.fal.models import MODELS
from worker.engines.remote.fal.provider import REFUSALS, FalProvider
from worker.engines.remote.hosted.connect import api_of, films_of
from worker.engines.remote.hosted.engine import HostedEngine
from worker.engines.remote.hosted.offer import check_offer
from worker.engines.remote.hosted.spec import spec_of

PROVIDER: Final = "fal"
TERMS: Final = "https://fal.ai/terms"


class FalEngine(HostedEngine):
    """One app of fal, bought with the operator's key."""

    def __init__(self, settings: Settings, entry: EngineEntry) -> None:
        offer, key = check_offer(entry, settings)
        model = MODELS[offer.model]
        api = api_of(PROVIDER, settings.fal_url, headers=headers, key=key, refusals=REFUSALS)
        spec = spec_of(offer, model, provider=PROVIDER, terms=TERMS)
        super().__init__(spec, FalProvider(model, api, films_of(settings)))


def headers(key: str) -> dict[str, str]:
    return {"Authorization": f"Key {key}"}
