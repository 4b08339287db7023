"""The content of a checkpoint of Wan 2.2, and its origin."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from shared.settings import Settings
from worker.engines.diffusion.checkpoint import Layout, local_folder, names_part, read_index

NAME: Final = "wan"
SECOND_EXPERT: Final = "transformer_2"

LAYOUT: Final = Layout(
    name=NAME,
    # The authors publish TI2V-5B under the class for text; its parts serve both.
    pipelines=("WanImageToVideoPipeline", "WanPipeline"),
    hub_id="Wan-AI/Wan2.2-TI2V-5B-Diffusers",
    # The commit that independent users' caches of the repository name in 2026; it was read in
    # their public notes, not asked from the hub itself.
    revision="b8fff7315c768468a5333511427288870b2e9635",
    modelscope_id="Wan-AI/Wan2.2-TI2V-5B-Diffusers",
    weighted=("text_encoder", "vae", "transformer"),
    optional=(SECOND_EXPERT,),
    # The authors publish the transformer in float32, twice the size that a card computes with.
    # These words are the library's own list of layers that it always keeps in float32.
    to_bf16=("transformer", SECOND_EXPERT),
    in_float32=("rope", "time_embedder", "scale_shift_table", "norm1", "norm2", "norm3"),
    plain=MappingProxyType(
        {"tokenizer": ("tokenizer.json",), "scheduler": ("scheduler_config.json",)}
    ),
)


def has_two_experts(settings: Settings) -> bool:
    """Say whether the settings' folder has A14B's layout; quick, because it reads one file."""
    return names_part(_local_index(settings), SECOND_EXPERT)


def _local_index(settings: Settings) -> Mapping[str, Any]:
    if settings.model_dir is None:
        return {}
    folder = local_folder(NAME, settings.model_dir)
    return {} if folder is None else read_index(folder)
