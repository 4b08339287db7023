"""The models of Runway's API that take one image; a test compares them with its official SDK."""

from types import MappingProxyType
from typing import Final

from worker.engines.remote.hosted.model import HostedModel, Size

_GEN4: Final[tuple[Size, ...]] = (
    *((1280, 720), (1584, 672), (1104, 832)),
    *((960, 960), (832, 1104), (720, 1280)),
)
_HD: Final[tuple[Size, ...]] = ((1280, 720), (720, 1280))
_KLING: Final[tuple[Size, ...]] = ((1280, 720), (960, 960), (720, 1280))
_SEEDANCE: Final[tuple[Size, ...]] = (
    *((1470, 630), (1280, 720), (1112, 834)),
    *((960, 960), (834, 1112), (720, 1280)),
)

MODELS: Final = MappingProxyType(
    {
        model.name: model
        for model in (
            HostedModel(
                name="gen4_turbo",
                title="Runway Gen-4 Turbo",
                sizes=_GEN4,
                seconds=tuple(range(2, 11)),
                takes_seed=True,
            ),
            HostedModel(
                name="gen4.5",
                title="Runway Gen-4.5",
                sizes=_GEN4,
                seconds=tuple(range(2, 11)),
                prompt_required=True,
                takes_seed=True,
            ),
            *(
                HostedModel(
                    name=name,
                    title=title,
                    sizes=_HD,
                    seconds=(4, 6, 8),
                    takes_seed=True,
                    takes_negative_prompt=True,
                    takes_last_frame=True,
                )
                for name, title in (("veo3.1", "Veo 3.1"), ("veo3.1_fast", "Veo 3.1 Fast"))
            ),
            HostedModel(
                name="kling3.0_standard",
                title="Kling 3.0 Standard",
                sizes=_KLING,
                seconds=(5, 10),
                takes_last_frame=True,
            ),
            HostedModel(
                name="seedance2",
                title="Seedance 2.0",
                sizes=_SEEDANCE,
                seconds=(5, 10),
                takes_seed=True,
                takes_last_frame=True,
            ),
        )
    }
)

SILENT: Final = frozenset({"veo3.1", "veo3.1_fast", "kling3.0_standard", "seedance2"})
"""They make sound by default, at a higher price; clips here are silent."""
