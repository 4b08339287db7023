"""A small model of each provider, which is treated like the provider's real models."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from shared.engines.spec import EngineSpec
from worker.engines.remote.fal import models as fal
from worker.engines.remote.hosted.model import HostedModel
from worker.engines.remote.runway import models as runway

USD_PER_SECOND: Final = 0.1
_SIZE: Mapping[str, Any] = {"sizes": ((96, 64),), "seconds": (1, 2), "fps": 8}

RUNWAY: Final = HostedModel(name="small", title="Small", takes_seed=True, **_SIZE)
FAL: Final = fal.FalModel(name="fal-ai/small/image-to-video", title="Small", **_SIZE)

ENTRIES: Final = (
    f"gen=runway:{RUNWAY.name}?usd_per_second={USD_PER_SECOND}"
    f",pika=fal:{FAL.name}?usd_per_second={USD_PER_SECOND}"
)


def add_to_catalogues() -> None:
    """Let this process offer them. No module that reads the catalogues may be imported before."""
    runway.MODELS = MappingProxyType({**runway.MODELS, RUNWAY.name: RUNWAY})  # type: ignore[misc]
    fal.MODELS = MappingProxyType({**fal.MODELS, FAL.name: FAL})  # type: ignore[misc]


def specs() -> dict[str, EngineSpec]:
    """Return the specs of the engines of `ENTRIES`."""
    from worker.engines.remote.hosted.offer import HostedOffer  # It reads the catalogues.
    from worker.engines.remote.hosted.spec import spec_of

    return {
        name: spec_of(
            HostedOffer(name, model.name, USD_PER_SECOND),
            model,
            provider=provider,
            terms="https://example.org",
        )
        for name, provider, model in (("gen", "Runway", RUNWAY), ("pika", "fal", FAL))
    }
