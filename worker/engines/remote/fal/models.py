"""The offered apps of fal, each with its names for our fields."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final

from worker.engines.remote.hosted.model import HostedModel

_SIZES: Final = ((1280, 720), (960, 960), (720, 1280))


@dataclass(frozen=True)
class FalModel(HostedModel):
    """An app; `fixed` has values that are always sent, `last_frame` its name for the last image.

    A length is sent in seconds, as text if `text_seconds`; or, if `frames`, as frames, one more
    than the seconds hold.
    """

    fixed: Mapping[str, Any] = field(default_factory=dict)
    last_frame: str | None = None
    text_seconds: bool = False
    frames: bool = False


def _kling(tier: str, title: str) -> FalModel:
    return FalModel(
        name=f"fal-ai/kling-video/v2.5-turbo/{tier}/image-to-video",
        title=title,
        sizes=_SIZES,
        seconds=(5, 10),
        prompt_required=True,
        max_prompt=2500,
        takes_negative_prompt=True,
        takes_last_frame=tier == "pro",
        last_frame="tail_image_url" if tier == "pro" else None,
        text_seconds=True,
    )


MODELS: Final = MappingProxyType(
    {
        model.name: model
        for model in (
            FalModel(
                name="fal-ai/pika/v2.2/image-to-video",
                title="Pika 2.2",
                sizes=_SIZES,
                seconds=(5, 10),
                prompt_required=True,
                max_prompt=2000,
                takes_seed=True,
                takes_negative_prompt=True,
                fixed={"resolution": "720p"},
            ),
            _kling("pro", "Kling 2.5 Turbo Pro"),
            _kling("standard", "Kling 2.5 Turbo Standard"),
            FalModel(
                name="fal-ai/wan/v2.2-a14b/image-to-video",
                title="Wan 2.2 A14B",
                sizes=_SIZES,
                seconds=tuple(range(2, 11)),
                fps=16,
                prompt_required=True,
                max_prompt=2000,
                takes_seed=True,
                takes_negative_prompt=True,
                fixed={"resolution": "720p", "frames_per_second": 16},
                frames=True,
            ),
        )
    }
)
