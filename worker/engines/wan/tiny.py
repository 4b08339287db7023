"""Small random checkpoints of Wan, in the hub's format; their clips are noise."""

from pathlib import Path
from typing import Any, Final, Literal

import torch
from diffusers import AutoencoderKLWan, UniPCMultistepScheduler, WanTransformer3DModel
from transformers import UMT5Config, UMT5EncoderModel

from worker.engines.diffusion.tiny import T5_VOCABULARY, drawn_anew, write_json, write_t5_tokenizer

Kind = Literal["ti2v-5b", "i2v-a14b"]

TEXT_WIDTH: Final = 16
LATENTS: Final = {"ti2v-5b": 8, "i2v-a14b": 4}
SCHEDULER: Final = {
    "prediction_type": "flow_prediction",
    "use_flow_sigmas": True,
    "num_train_timesteps": 1000,
    "flow_shift": 5.0,
}


def tiny_wan(folder: Path, kind: Kind = "ti2v-5b") -> Path:
    """Return `folder` with a small random checkpoint of Wan 2.2, built if it does not exist.

    The folder works as STILLREEL_MODEL_DIR. Some 0.6 MB, built in about a second.
    """
    index = folder / "model_index.json"
    if index.is_file():
        return folder
    with torch.random.fork_rng():
        torch.manual_seed(22)
        _vae(kind).save_pretrained(folder / "vae")
        _text_encoder().save_pretrained(folder / "text_encoder")
        for name in _experts(kind):
            _transformer(kind).save_pretrained(folder / name)
    UniPCMultistepScheduler(**SCHEDULER).save_pretrained(folder / "scheduler")
    write_t5_tokenizer(folder / "tokenizer")
    write_json(index, _index(kind))
    return folder


def _experts(kind: Kind) -> tuple[str, ...]:
    return ("transformer",) if kind == "ti2v-5b" else ("transformer", "transformer_2")


def _vae(kind: Kind) -> Any:
    latents = LATENTS[kind]
    # As far from 0 and 1 as the real values, so that a statistic that is not applied shows.
    statistics = {
        "latents_mean": [0.1 * index - 0.2 for index in range(latents)],
        "latents_std": [0.5 + 0.2 * index for index in range(latents)],
    }
    newer = {
        "is_residual": True,
        "in_channels": 12,
        "out_channels": 12,
        "patch_size": 2,
        "scale_factor_spatial": 16,
        "decoder_base_dim": 6,
    }
    return drawn_anew(
        AutoencoderKLWan(
            base_dim=4,
            z_dim=latents,
            dim_mult=[1, 1, 1, 1],
            num_res_blocks=1,
            temperal_downsample=[False, True, True],
            **statistics,
            **(newer if kind == "ti2v-5b" else {}),
        )
    )


def _transformer(kind: Kind) -> Any:
    latents = LATENTS[kind]
    return drawn_anew(
        WanTransformer3DModel(
            in_channels=latents if kind == "ti2v-5b" else 2 * latents + 4,
            out_channels=latents,
            num_attention_heads=2,
            attention_head_dim=12,
            text_dim=TEXT_WIDTH,
            freq_dim=32,
            ffn_dim=32,
            num_layers=2,
            rope_max_seq_len=128,
        )
    )


def _text_encoder() -> Any:
    config = UMT5Config(
        vocab_size=len(T5_VOCABULARY),
        d_model=TEXT_WIDTH,
        d_kv=8,
        d_ff=32,
        num_layers=2,
        num_heads=2,
        feed_forward_proj="gated-gelu",
    )
    return drawn_anew(UMT5EncoderModel(config))


def _index(kind: Kind) -> dict[str, object]:
    is_small = kind == "ti2v-5b"
    experts = {name: ["diffusers", "WanTransformer3DModel"] for name in _experts(kind)}
    return {
        "_class_name": "WanPipeline" if is_small else "WanImageToVideoPipeline",
        "_diffusers_version": "0.35.0.dev0",
        "boundary_ratio": None if is_small else 0.9,
        "expand_timesteps": is_small,
        "scheduler": ["diffusers", "UniPCMultistepScheduler"],
        "text_encoder": ["transformers", "UMT5EncoderModel"],
        "tokenizer": ["transformers", "T5TokenizerFast"],
        "transformer_2": [None, None],
        "vae": ["diffusers", "AutoencoderKLWan"],
        **experts,
    }
