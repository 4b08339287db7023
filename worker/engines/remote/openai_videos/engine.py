"""The `openai-videos` engine: a model that one of the operator's servers renders."""

from typing import Final

from shared.engines.entries import EngineEntry
from shared.engines.spec import EngineSpec, Honours, Licence, Shape, Span
from shared.outbound.client import Outbound
from shared.settings import Settings
from worker.engines.remote.engine import RemoteEngine
from worker.engines.remote.openai_videos.address import Address, addresses
from worker.engines.remote.openai_videos.backend import SHIPPED, Backend, BackendLimits

MULTIPLE: Final = 16
LONGEST: Final = 241


class OpenAIVideosEngine(RemoteEngine):
    """Forwards to servers that speak `/v1/videos`; a job goes to the one with the fewest jobs."""

    def __init__(
        self, settings: Settings, entry: EngineEntry, limits: BackendLimits = SHIPPED
    ) -> None:
        found = addresses(entry)
        self.links = Outbound(
            settings.outbound_networks,
            deadline=limits.download,
            max_bytes=limits.clip_bytes,
            closed_ports=settings.own_ports,
            inner_ports=settings.inner_ports,
        )
        super().__init__(
            spec(entry.name, found[0]),
            [
                Backend(address, settings.openai_videos_key, self.links, limits)
                for address in found
            ],
            told={"provider": "openai-videos", "remote_model": found[0].model},
        )


def spec(name: str, address: Address) -> EngineSpec:
    """Return the spec of a model that we do not hold, by the operator's words."""
    return EngineSpec(
        name=name,
        title=name,
        description=(
            f"{address.model}, rendered by another server of the operator, which gets the image"
            " and the prompt. A cancel reaches that server, but not every server stops the"
            " render."
        ),
        revision=f"openai-videos {address.model}",
        ai_generated=True,
        uses_prompt=True,
        prompt_required=True,
        uses_negative_prompt=True,
        needs_gpu=False,
        shape=Shape.BUCKETS,
        multiple=MULTIPLE,
        max_side=2048,
        honours=(Honours.BLUR,),
        num_frames=Span(low=1, high=max(LONGEST, address.defaults.num_frames)),
        defaults=address.defaults,
        licence=Licence(
            name=f"the licence of {address.model}",
            commercial_use="ask",
            note="Another server has the model; its own card says what clips may be used for.",
        ),
    )
