"""A small random checkpoint of AnimateDiff with SparseCtrl; its clips are noise."""

from pathlib import Path
from typing import Any, Final

import torch
from diffusers import MotionAdapter, SparseControlNetModel, UNet2DConditionModel

from worker.engines.animatediff.checkpoint import INDEX
from worker.engines.animatediff.model import new_scheduler
from worker.engines.diffusion.tiny import (
    drawn_anew,
    small_clip_text_encoder,
    small_image_vae,
    write_clip_tokenizer,
    write_json,
)

WIDTH: Final = 16
CHANNELS: Final = (8, 16)


def tiny_animatediff(folder: Path) -> Path:
    """Return `folder` with a small random checkpoint, built if it does not exist: some 1 MB.

    The folder works as STILLREEL_MODEL_DIR, and has the layout of the three repositories.
    """
    index = folder / "model_index.json"
    if index.is_file():
        return folder
    with torch.random.fork_rng():
        torch.manual_seed(15)
        small_image_vae((4, 4, 8, 8)).save_pretrained(folder / "vae")
        small_clip_text_encoder(WIDTH, layers=2).save_pretrained(folder / "text_encoder")
        _unet().save_pretrained(folder / "unet")
        _motion_adapter().save_pretrained(folder / "motion_adapter")
        _controlnet().save_pretrained(folder / "controlnet")
    new_scheduler().save_pretrained(folder / "scheduler")
    write_clip_tokenizer(folder / "tokenizer")
    write_json(index, dict(INDEX))
    return folder


def _unet() -> Any:
    return drawn_anew(
        UNet2DConditionModel(
            sample_size=8,
            block_out_channels=CHANNELS,
            down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
            layers_per_block=1,
            cross_attention_dim=WIDTH,
            attention_head_dim=2,
            norm_num_groups=2,
        )
    )


def _motion_adapter() -> Any:
    return drawn_anew(
        MotionAdapter(
            block_out_channels=CHANNELS,
            motion_layers_per_block=1,
            motion_mid_block_layers_per_block=1,
            motion_num_attention_heads=2,
            motion_norm_num_groups=2,
            motion_max_seq_length=32,
            use_motion_mid_block=False,  # Like the downloaded module of 2024.
        )
    )


def _controlnet() -> Any:
    return drawn_anew(
        SparseControlNetModel(
            block_out_channels=CHANNELS,
            down_block_types=("CrossAttnDownBlockMotion", "DownBlockMotion"),
            layers_per_block=1,
            cross_attention_dim=WIDTH,
            attention_head_dim=2,
            norm_num_groups=2,
            motion_num_attention_heads=2,
        )
    )
