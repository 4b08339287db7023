"""The content of a checkpoint of I2VGen-XL, and its origin."""

from types import MappingProxyType
from typing import Final

from worker.engines.diffusion.checkpoint import Layout

NAME: Final = "i2vgen-xl"

LAYOUT: Final = Layout(
    name=NAME,
    pipelines=("I2VGenXLPipeline",),
    hub_id="ali-vilab/i2vgen-xl",
    # The commit that independent users' caches of the repository name, from 2024 to August 2026.
    # It was read in their public notes, not asked from the hub itself.
    revision="39e1979ea27be737b0278c06755e321f2b4360d5",
    # The authors' own repository there. A copy without the diffusers parts is refused by name.
    modelscope_id="iic/i2vgen-xl",
    weighted=("text_encoder", "image_encoder", "vae", "unet"),
    plain=MappingProxyType(
        {
            "tokenizer": ("tokenizer.json", "vocab.json"),
            "feature_extractor": ("preprocessor_config.json",),
            "scheduler": ("scheduler_config.json",),
        }
    ),
    # The half-precision files are half the download, and a card runs in half precision anyway.
    weight_files="*.fp16.safetensors",
)
