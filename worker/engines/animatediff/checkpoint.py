"""The content of a checkpoint of AnimateDiff with SparseCtrl: parts of three repositories."""

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
"""The pipeline of the folder, because the base model's own index names one for still images."""

LAYOUT: Final = Layout(
    name=NAME,
    pipelines=("AnimateDiffSparseControlNetPipeline",),
    hub_id="stable-diffusion-v1-5/stable-diffusion-v1-5",
    # The commit that independent users' caches name; it was read in public notes, not asked from
    # the hub.
    revision="451f4fe16113bff5a5d2269ed5ad43b0592e9a14",
    modelscope_id=None,
    weighted=("text_encoder", "vae", "unet", "motion_adapter", "controlnet"),
    # The base model's scheduler is for still images and is not read: see `model.scheduler`.
    plain=MappingProxyType({"tokenizer": ("tokenizer.json", "vocab.json")}),
    weight_files="*.fp16.safetensors",
    # We know no commit of these two: the first download fixes it, and its manifest keeps it with
    # the sha256 of each file.
    beside=(
        Repository("guoyww/animatediff-motion-adapter-v1-5-3", "main", into="motion_adapter"),
        Repository("guoyww/animatediff-sparsectrl-rgb", "main", into="controlnet"),
    ),
    index=INDEX,
)

MOST_FRAMES: Final = 32
"""The number of positions in time that the motion modules learned."""
