"""Small random checkpoints of pipelines without an engine of their own; their clips are noise."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import torch
from diffusers import (
    AutoencoderKLCogVideoX,
    AutoencoderKLLTXVideo,
    CogVideoXTransformer3DModel,
    DDIMScheduler,
    FlowMatchEulerDiscreteScheduler,
    LTXVideoTransformer3DModel,
)
from transformers import T5Config, T5EncoderModel

from shared.engines.entries import EngineEntry, EngineKind
from shared.settings import Settings
from tests.support import checkpoints  # One thread for each test process.
from worker.engines.diffusion.tiny import T5_VOCABULARY, drawn_anew, write_json, write_t5_tokenizer
from worker.engines.generic.engine import GenericEngine
from worker.engines.wan.tiny import tiny_wan

ONE_THREAD = checkpoints  # Imported for its effect: torch stays on one thread.

WIDTH: Final = 32
COGVIDEOX_SIDE: Final = 64
"""The only width and height of the small CogVideoX."""


def served(folder: Path, **settings: Any) -> GenericEngine:
    """Return the folder as the engine of a setting's entry, not loaded."""
    entry = EngineEntry("small", EngineKind.DIFFUSERS, (str(folder),))
    return GenericEngine(Settings(_env_file=None, **settings), entry)


def small_ltx(folder: Path) -> Path:
    vae = AutoencoderKLLTXVideo(
        latent_channels=8,
        block_out_channels=(8, 8, 8, 8),
        decoder_block_out_channels=(8, 8, 8, 8),
        layers_per_block=(1, 1, 1, 1, 1),
        decoder_layers_per_block=(1, 1, 1, 1, 1),
        spatio_temporal_scaling=(True, True, False, False),
        decoder_spatio_temporal_scaling=(True, True, False, False),
        decoder_inject_noise=(False,) * 5,
        upsample_residual=(False,) * 4,
        upsample_factor=(1,) * 4,
        patch_size=1,
    )
    transformer = LTXVideoTransformer3DModel(
        in_channels=8,
        out_channels=8,
        num_attention_heads=4,
        attention_head_dim=8,
        cross_attention_dim=WIDTH,
        num_layers=1,
        caption_channels=WIDTH,
    )
    return _saved(
        folder,
        "LTXPipeline",  # As its authors publish it.
        {"vae": vae, "transformer": transformer},
        FlowMatchEulerDiscreteScheduler(),
    )


def small_cogvideox(folder: Path) -> Path:
    vae = AutoencoderKLCogVideoX(
        down_block_types=("CogVideoXDownBlock3D",) * 4,
        up_block_types=("CogVideoXUpBlock3D",) * 4,
        block_out_channels=(8, 8, 8, 8),
        latent_channels=4,
        layers_per_block=1,
        norm_num_groups=2,
    )
    transformer = CogVideoXTransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=16,
        in_channels=8,
        out_channels=4,
        time_embed_dim=2,
        text_embed_dim=WIDTH,
        num_layers=1,
        sample_width=COGVIDEOX_SIDE // 8,
        sample_height=COGVIDEOX_SIDE // 8,
        sample_frames=17,
        use_rotary_positional_embeddings=True,
        use_learned_positional_embeddings=True,
    )
    parts = {"vae": vae, "transformer": transformer}
    return _saved(folder, "CogVideoXImageToVideoPipeline", parts, DDIMScheduler())


def small_wan(folder: Path) -> Path:
    tiny_wan(folder, "i2v-a14b")
    return folder


SMALL: Final[Mapping[str, Callable[[Path], Path]]] = {
    "ltx": small_ltx,
    "cogvideox": small_cogvideox,
    "wan": small_wan,
}


def _saved(folder: Path, kind: str, parts: Mapping[str, Any], scheduler: Any) -> Path:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        for name, part in {**parts, "text_encoder": _text_encoder()}.items():
            drawn_anew(part).save_pretrained(folder / name)
    scheduler.save_pretrained(folder / "scheduler")
    write_t5_tokenizer(folder / "tokenizer")
    index: dict[str, object] = {
        name: ["diffusers", type(part).__name__] for name, part in parts.items()
    }
    write_json(
        folder / "model_index.json",
        {
            **index,
            "_class_name": kind,
            "_diffusers_version": "0.32.0",
            "scheduler": ["diffusers", type(scheduler).__name__],
            "text_encoder": ["transformers", "T5EncoderModel"],
            "tokenizer": ["transformers", "T5TokenizerFast"],
        },
    )
    return folder


def _text_encoder() -> Any:
    config = T5Config(
        vocab_size=len(T5_VOCABULARY), d_model=WIDTH, d_kv=8, d_ff=32, num_layers=1, num_heads=2
    )
    return T5EncoderModel(config)
