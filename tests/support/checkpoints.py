"""Small random checkpoints, written as the hub writes the real ones."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from diffusers import AutoencoderKL, DDIMScheduler, I2VGenXLUNet
from safetensors.torch import load_file, save_file
from tokenizers.pre_tokenizers import ByteLevel
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
)
from transformers.utils import logging as transformers_logging

# Tests share two cores: with more threads each, torch's wait for one another, up to 20 x slower.
torch.set_num_threads(1)

WIDTH: Final = 16  # of the context that text and picture are brought to
START, END = "<|startoftext|>", "<|endoftext|>"


@dataclass(frozen=True)
class Shape:
    """How much of the real model's shape a small one keeps."""

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
    # Seven VAE blocks make a latent of 64 x 64 pixels, so that 80 steps of 24 frames at 768p
    # take seconds on two cores; with the real four they would take many minutes.
    unet_channels=(4, 8),
    unet_down=("DownBlock3D", "CrossAttnDownBlock3D"),
    head_width=4,
    vae_channels=(2, 2, 4, 4, 4, 4, 4),
)


def small_i2vgen_xl(folder: Path, shape: Shape = QUICK) -> Path:
    """Return `folder` holding a small random I2VGen-XL checkpoint, built if it is not there.

    The folder works as STILLREEL_MODEL_DIR. Building takes about a second.
    """
    index = folder / "model_index.json"
    if index.is_file():
        return folder
    transformers_logging.disable_progress_bar()
    with torch.random.fork_rng():
        torch.manual_seed(20)
        small_unet(shape).save_pretrained(folder / "unet")
        _vae(shape).save_pretrained(folder / "vae")
        _text_encoder().save_pretrained(folder / "text_encoder")
        _image_encoder().save_pretrained(folder / "image_encoder")
    _name_as_on_the_hub(folder / "text_encoder" / "model.safetensors")
    i2vgen_scheduler().save_pretrained(folder / "scheduler")
    _write(folder / "feature_extractor" / "preprocessor_config.json", PREPROCESSOR)
    _write_tokenizer(folder / "tokenizer")
    _write(index, MODEL_INDEX)
    return folder


def small_unet(shape: Shape) -> Any:
    up = {"CrossAttnDownBlock3D": "CrossAttnUpBlock3D", "DownBlock3D": "UpBlock3D"}
    return _drawn_anew(
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


def _vae(shape: Shape) -> Any:
    blocks = len(shape.vae_channels)
    return _drawn_anew(
        AutoencoderKL(
            block_out_channels=shape.vae_channels,
            down_block_types=("DownEncoderBlock2D",) * blocks,
            up_block_types=("UpDecoderBlock2D",) * blocks,
            layers_per_block=1,
            latent_channels=4,
            norm_num_groups=2,
        )
    )


def _text_encoder() -> Any:
    config = CLIPTextConfig(
        vocab_size=len(VOCABULARY),
        hidden_size=WIDTH,
        intermediate_size=2 * WIDTH,
        num_hidden_layers=3,
        num_attention_heads=2,
        projection_dim=WIDTH,
        hidden_act="gelu",
        bos_token_id=VOCABULARY[START],
        eos_token_id=VOCABULARY[END],
        pad_token_id=VOCABULARY[END],
    )
    return _drawn_anew(CLIPTextModel(config))


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
    return _drawn_anew(CLIPVisionModelWithProjection(config))


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


def _drawn_anew(model: Any) -> Any:
    """Draw every weight that starts at zero: a zero temporal convolution is the identity,
    and would hide that it is missing.
    """
    with torch.no_grad():
        for weight in model.parameters():
            if not weight.any():
                weight.normal_(std=0.2)
            elif weight.dim() > 1 and weight.std() < 0.1:
                # CLIP starts at 0.02, where its layers hardly differ from one another.
                weight.mul_(0.1 / weight.std())
    return model


def _name_as_on_the_hub(path: Path) -> None:
    """Put back the prefix that the real file's names have, and that a newer library drops."""
    weights = load_file(path)
    renamed = {f"text_model.{name.removeprefix('text_model.')}": weights[name] for name in weights}
    renamed["text_model.embeddings.position_ids"] = torch.arange(77)[None]
    save_file(renamed, path, metadata={"format": "pt"})


def _write_tokenizer(folder: Path) -> None:
    _write(folder / "vocab.json", VOCABULARY)
    (folder / "merges.txt").write_text("#version: 0.2\n", encoding="utf-8")
    _write(folder / "special_tokens_map.json", SPECIAL_TOKENS)
    _write(
        folder / "tokenizer_config.json",
        {**SPECIAL_TOKENS, "model_max_length": 77, "tokenizer_class": "CLIPTokenizer"},
    )


def _write(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")


def _vocabulary() -> dict[str, int]:
    """Return every byte, alone and at a word's end, then the two frames of a sentence."""
    letters = sorted(ByteLevel.alphabet())
    words = [*letters, *(f"{letter}</w>" for letter in letters), START, END]
    return {word: number for number, word in enumerate(words)}


VOCABULARY: Final = _vocabulary()
SPECIAL_TOKENS: Final = {
    "bos_token": START,
    "eos_token": END,
    "unk_token": END,
    "pad_token": END,
}
PREPROCESSOR: Final = {
    "image_processor_type": "CLIPImageProcessor",
    "do_resize": True,
    "size": {"shortest_edge": 224},
    "do_center_crop": True,
    "crop_size": {"height": 224, "width": 224},
    "do_rescale": True,
    "do_normalize": True,
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
    "resample": 3,
}
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
