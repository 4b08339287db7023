"""What a checkpoint of AnimateDiff with SparseCtrl holds: parts of three repositories."""

from types import MappingProxyType
from typing import Final

from worker.download.repository import Repository
from worker.engines.diffusion.checkpoint import Layout

NAME: Final = "animatediff"

INDEX: Final = MappingProxyType(
    {
        "_class_name": "AnimateDiffSparseControlNetPipeline",
        "_diffusers_version": "0.30.0",
        "controlnet": ["diffusers", "SparseControlNetModel"],
        "feature_extractor": [None, None],
        "image_encoder": [None, None],
        "motion_adapter": ["diffusers", "MotionAdapter"],
        "scheduler": ["diffusers", "DPMSolverMultistepScheduler"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
    }
)
"""The pipeline of the folder: the base's own names one of stills."""

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
    # No commit of these two is known to us: the first download settles it, and its manifest keeps
    # it with the sha256 of each file.
    beside=(
        Repository("guoyww/animatediff-motion-adapter-v1-5-3", "main", into="motion_adapter"),
        Repository("guoyww/animatediff-sparsectrl-rgb", "main", into="controlnet"),
    ),
    index=INDEX,
)

MOST_FRAMES: Final = 32
"""As many places in time as the motion modules were taught."""
