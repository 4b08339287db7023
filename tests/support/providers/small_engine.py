"""Runway's engine with a model whose clips are small; all else is the real engine's."""

from shared.engines.entries import EngineKind
from shared.settings import Settings
from worker.engines.remote.hosted.connect import api_of, films_of
from worker.engines.remote.hosted.engine import HostedEngine
from worker.engines.remote.hosted.key import ProviderKey, read_key
from worker.engines.remote.hosted.model import HostedModel
from worker.engines.remote.hosted.offer import HostedOffer
from worker.engines.remote.hosted.spec import spec_of
from worker.engines.remote.patience import Patience
from worker.engines.remote.runway.engine import headers
from worker.engines.remote.runway.provider import REFUSALS, RunwayProvider

MODEL = HostedModel(
    name="small", title="Small", sizes=((96, 64),), seconds=(1, 2), fps=8, takes_seed=True
)
OFFER = HostedOffer("small", MODEL.name, 0.1)
SPEC = spec_of(OFFER, MODEL, provider="Runway", terms="https://example.org")
PATH = "tests.support.providers.small_engine:SmallEngine"


class SmallEngine(HostedEngine):
    patience = Patience(first_look=0.05, longest_look=0.2, again=1, settling=2)

    def __init__(self, settings: Settings) -> None:
        kind = EngineKind.RUNWAY
        key = ProviderKey(read_key(kind, settings), kind, settings)
        api = api_of("Runway", settings.runway_url, headers=headers, key=key, refusals=REFUSALS)
        super().__init__(SPEC, RunwayProvider(MODEL, api, films_of(settings)))
