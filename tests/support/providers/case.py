"""A provider of ours and the stand-in that it asks: for tests of what each answer means."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from shared.engines.entries import EngineEntry, EngineKind
from shared.engines.parameters import RequestedParameters, resolve_parameters
from shared.settings import Settings
from tests.support.providers import small_models
from tests.support.providers.fal import FalService
from tests.support.providers.runway import RunwayService
from tests.support.providers.service import KEY, ProviderService, Reply
from worker.engines.base import RenderRequest
from worker.engines.remote.fal.engine import FalEngine
from worker.engines.remote.provider import Look, Provider
from worker.engines.remote.runway.engine import RunwayEngine

FILM = b"a film of some bytes"
IMAGE = np.full((96, 128, 3), (30, 90, 150), np.uint8)
IMAGE[:48] = 200
TARGETS = {
    "runway": "veo3.1?usd_per_second=0.2",
    "fal": "fal-ai/kling-video/v2.5-turbo/pro/image-to-video?usd_per_second=0.07",
}


@dataclass
class Case:
    """A provider of ours and the stand-in that it asks."""

    kind: EngineKind
    service: ProviderService
    engine: RunwayEngine | FalEngine
    provider: Provider

    def request(self, **asked: Any) -> RenderRequest:
        fields = RequestedParameters(prompt="the tide comes in", **asked)
        settled = resolve_parameters(
            self.engine.spec, fields, image_width=128, image_height=96, seed=7
        )
        return RenderRequest(IMAGE, settled, last_frame=IMAGE[::-1].copy())

    def finished(self) -> tuple[str, Look]:
        task = self.provider.create(self.request(), "key").task
        self.service.looks_needed = 1
        return task, self.provider.look(task)


def engine_at(kind: str, url: str, **settings: Any) -> RunwayEngine | FalEngine:
    entry = EngineEntry("hosted", EngineKind(kind), (TARGETS[kind],))
    values = {
        f"{kind}_key": KEY,
        f"{kind}_url": url,
        "send_images_to": kind,
        "outbound_allow": "127.0.0.0/8",
    }
    made = Settings(_env_file=None, **values | settings)
    return RunwayEngine(made, entry) if kind == "runway" else FalEngine(made, entry)


def provider_of(engine: RunwayEngine | FalEngine) -> Provider:
    return engine._roster.at(engine._roster.in_turn()[0].name)


SMALL = {"runway": small_models.RUNWAY, "fal": small_models.FAL}


@pytest.fixture
def case(real: Case) -> Case:
    """A case whose model takes small images, because a create mostly encodes large ones."""
    real.provider._model = SMALL[real.kind]  # type: ignore[attr-defined]
    return real


@pytest.fixture(params=["runway", "fal"])
def real(request: pytest.FixtureRequest) -> Iterator[Case]:
    make: Callable[..., ProviderService] = (
        RunwayService if request.param == "runway" else FalService
    )
    with make(FILM) as service:
        engine = engine_at(request.param, service.url)
        yield Case(EngineKind(request.param), service, engine, provider_of(engine))


@pytest.fixture
def fal() -> Iterator[Case]:
    with FalService(FILM) as service:
        engine = engine_at("fal", service.url)
        found = Case(EngineKind.FAL, service, engine, provider_of(engine))
        found.provider._model = SMALL["fal"]  # type: ignore[attr-defined]
        yield found


def unheard(received: int, total: int | None) -> None:
    pass


def named(value: object) -> str | None:
    """Return the name of a case with such a reply."""
    return f"{value.status}-{value.content[:12]!r}" if isinstance(value, Reply) else None
