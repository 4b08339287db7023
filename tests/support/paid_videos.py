"""An engine whose back end costs money: a stand-in, with the rules for purchases."""

import os
from typing import Final

from shared.engines.entries import EngineEntry, EngineKind
from shared.settings import Settings
from worker.engines.remote.engine import RemoteEngine
from worker.engines.remote.openai_videos.address import addresses
from worker.engines.remote.openai_videos.backend import Backend
from worker.engines.remote.openai_videos.engine import OpenAIVideosEngine, spec

NAME: Final = "paid"
VARIABLE: Final = "STILLREEL_TEST_PAID_BASE"
ENTRY: Final = f"{NAME}=tests.support.paid_videos:PaidVideosEngine"


class PaidBackend(Backend):
    """Nobody can find out what a lost create of it has made."""

    is_paid = True


class PaidVideosEngine(RemoteEngine):
    """Asks the stand-in whose address the environment names."""

    def __init__(self, settings: Settings) -> None:
        target = f"{os.environ[VARIABLE]}?model=paid"
        entry = EngineEntry(NAME, EngineKind.OPENAI_VIDEOS, (target,))
        (address,) = addresses(entry)
        links = OpenAIVideosEngine(settings, entry).links
        super().__init__(
            spec(NAME, address),
            [PaidBackend(address, None, links)],
            told={"provider": "paid", "remote_model": "paid"},
        )
