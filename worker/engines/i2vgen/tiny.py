"""Small random checkpoints of I2VGen-XL, in the hub's format; their clips are noise."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from diffusers import DDIMScheduler, I2VGenXLUNet
from safetensors.torch import load_file, save_file
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection
from transformers.utils import logging as transformers_logging

from worker.engines.diffusion.tiny import (
    CLIP_PREPROCESSOR,
    drawn_anew,
    small_clip_text_encoder,
    small_image_vae,
    write_clip_tokenizer,
    write_json,
)

WIDTH: Final = 16  # of the context that text and image are projected to


@dataclass(frozen=True)
class Shape:
    """How much of the real model's shape a small one has."""

    unet_channels: tuple[int, ...]
    unet_down: tuple[str, ...]
    head_width: int
    vae_channels: tuple[int, ...]


FAITHFUL: Final = Shape(
    # The real model's blocks, each in its place; only the widths are small.
    unet_channels=(16, 16, 32, 32),
    unet_down=("CrossAttnDownBlock3D",) * 3 + ("DownBlock3D",),
    head_width=8,
    vae_channels=(8, 8, 16, 16),
)
QUICK: Final = Shape(
    # Seven VAE blocks make a latent of 64 x 64 pixels, so 80 steps of 24 frames at 768p take
    # seconds on two cores. With the real four blocks they would take many minutes.
    unet_channels=(4, 8),
    unet_down=("DownBlock3D", "CrossAttnDownBlock3D"),
    head_width=4,
    vae_channels=(2, 2, 4, 4, 4, 4, 4),
)


def tiny_i2vgen_xl(folder: Path, shape: Shape = QUICK) -> Path:
    """Return `folder` with a small random I2VGen-XL checkpoint, built if it does not exist.

    The folder works as STILLREEL_MODEL_DIR. Building takes about a second.
    """
    index = folder / "model_index.json"
    if index.is_file():
        return folder
    transformers_logging.disable_progress_bar()
    with torch.random.fork_rng():
        torch.manual_seed(20)
        small_unet(shape).save_pretrained(folder / "unet")
        small_image_vae(shape.vae_channels).save_pretrained(folder / "vae")
        small_clip_text_encoder(WIDTH, layers=3, act="gelu").save_pretrained(
            folder / "text_encoder"
        )
        _image_encoder().save_pretrained(folder / "image_encoder")
    _name_as_on_the_hub(folder / "text_encoder" / "model.safetensors")
    i2vgen_scheduler().save_pretrained(folder / "scheduler")
    write_json(folder / "feature_extractor" / "preprocessor_config.json", CLIP_PREPROCESSOR)
    write_clip_tokenizer(folder / "tokenizer")
    write_json(index, MODEL_INDEX)
    return folder


def small_unet(shape: Shape) -> Any:
    up = {"CrossAttnDownBlock3D": "CrossAttnUpBlock3D", "DownBlock3D": "UpBlock3D"}
    return drawn_anew(
        I2VGenXLUNet(
            sample_size=32,
            block_out_channels=shape.unet_channels,
            down_block_types=shape.unet_down,
            up_block_types=tuple(up[block] for block in reversed(shape.unet_down)),
            layers_per_block=1,
            norm_num_groups=2,
            cross_attention_dim=WIDTH,
            attention_head_dim=shape.head_width,
        )
    )


def _image_encoder() -> Any:
    config = CLIPVisionConfig(
        hidden_size=WIDTH,
        intermediate_size=2 * WIDTH,
        num_hidden_layers=2,
        num_attention_heads=2,
        projection_dim=WIDTH,
        hidden_act="gelu",
        image_size=224,
        patch_size=56,
    )
    return drawn_anew(CLIPVisionModelWithProjection(config))


def i2vgen_scheduler() -> Any:
    """Return the scheduler of the real checkpoint."""
    return DDIMScheduler(
        beta_schedule="squaredcos_cap_v2",
        rescale_betas_zero_snr=True,
        set_alpha_to_one=True,
        clip_sample=False,
        steps_offset=1,
        timestep_spacing="leading",
        prediction_type="v_prediction",
    )


def _name_as_on_the_hub(path: Path) -> None:
    """Restore the prefix that the real file's names have, and that a newer library drops."""
    weights = load_file(path)
    renamed = {f"text_model.{name.removeprefix('text_model.')}": weights[name] for name in weights}
    renamed["text_model.embeddings.position_ids"] = torch.arange(77)[None]
    save_file(renamed, path, metadata={"format": "pt"})


MODEL_INDEX: Final = {
    "_class_name": "I2VGenXLPipeline",
    "_diffusers_version": "0.27.0",
    "feature_extractor": ["transformers", "CLIPImageProcessor"],
    "image_encoder": ["transformers", "CLIPVisionModelWithProjection"],
    "scheduler": ["diffusers", "DDIMScheduler"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "unet": ["diffusers", "I2VGenXLUNet"],
    "vae": ["diffusers", "AutoencoderKL"],
}
