"""The engine of entries like `gen4=runway:gen4_turbo?usd_per_second=0.05`."""

from typing import Final

from shared.engines.entries import EngineEntry
from shared.settings import Settings
from worker.engines.remote.hosted.connect import api_of, films_of
from worker.engines.remote.hosted.engine import HostedEngine
from worker.engines.remote.hosted.offer import check_offer
from worker.engines.remote.hosted.spec import spec_of
from worker.engines.remote.runway.models import MODELS
from worker.engines.remote.runway.provider import REFUSALS, RunwayProvider
from worker.engines.remote.runway.wire import VERSION

PROVIDER: Final = "Runway"
TERMS: Final = "https://runwayml.com/terms-of-use"


class RunwayEngine(HostedEngine):
    """One of Runway's models, bought with the operator's key."""

    def __init__(self, settings: Settings, entry: EngineEntry) -> None:
        offer, key = check_offer(entry, settings)
        model = MODELS[offer.model]
        api = api_of(PROVIDER, settings.runway_url, headers=headers, key=key, refusals=REFUSALS)
        spec = spec_of(offer, model, provider=PROVIDER, terms=TERMS)
        super().__init__(spec, RunwayProvider(model, api, films_of(settings)))


def headers(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}", "X-Runway-Version": VERSION}
