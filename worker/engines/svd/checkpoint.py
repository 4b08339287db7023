"""The content of a checkpoint of Stable Video Diffusion, and the origin of both."""

from types import MappingProxyType
from typing import Final

from worker.engines.diffusion.checkpoint import Layout


def _layout(name: str, *, hub_id: str, revision: str) -> Layout:
    return Layout(
        name=name,
        pipelines=("StableVideoDiffusionPipeline",),
        hub_id=hub_id,
        revision=revision,
        modelscope_id=None,
        weighted=("image_encoder", "vae", "unet"),
        plain=MappingProxyType(
            {
                "feature_extractor": ("preprocessor_config.json",),
                "scheduler": ("scheduler_config.json",),
            }
        ),
        weight_files="*.fp16.safetensors",
    )


# The commits that independent users' caches name; they were read in their public notes, not asked
# from the hub itself.
SVD: Final = _layout(
    "svd",
    hub_id="stabilityai/stable-video-diffusion-img2vid",
    revision="9cf024d5bfa8f56622af86c884f26a52f6676f2e",
)
SVD_XT: Final = _layout(
    "svd-xt",
    hub_id="stabilityai/stable-video-diffusion-img2vid-xt",
    revision="9e43909513c6714f1bc78bcb44d96e733cd242aa",
)
