"""What a checkpoint of AnimateDiff with SparseCtrl holds: parts of three repositories."""

from types import MappingProxyType
from typing import Final

from worker.engines.diffusion.checkpoint import Layout

NAME: Final = "animatediff"

LAYOUT: Final = Layout(
    name=NAME,
    pipelines=("AnimateDiffSparseControlNetPipeline",),
    hub_id="stable-diffusion-v1-5/stable-diffusion-v1-5",
    # The commit that independent users' caches name; read in public notes, not asked of the hub.
    revision="451f4fe16113bff5a5d2269ed5ad43b0592e9a14",
    modelscope_id=None,
    weighted=("text_encoder", "vae", "unet", "motion_adapter", "controlnet"),
    # The base's scheduler is for stills and is not read: see `model.scheduler`.
    plain=MappingProxyType({"tokenizer": ("tokenizer.json", "vocab.json")}),
    weight_files="*.fp16.safetensors",
)

MOST_FRAMES: Final = 32
"""As many places in time as the motion modules were taught."""
