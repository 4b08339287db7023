"""Random I2VGen-XL models in memory: one of the real size, and one small enough for two cores."""

import tempfile
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import torch
from diffusers import AutoencoderKL, I2VGenXLUNet
from transformers import (
    CLIPImageProcessor,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTokenizer,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
)

from tests.support.checkpoints import PREPROCESSOR, i2vgen_scheduler, small_i2vgen_xl
from tests.support.stock import GivenSample, shimmed
from worker.engines.i2vgen.weights import Model, prepare


@dataclass(frozen=True)
class Scale:
    """The size of a model; all sizes have the blocks of the real model."""

    unet_channels: tuple[int, ...]
    vae_channels: tuple[int, ...]
    text: tuple[int, int, int]  # width, layers, heads
    image: tuple[int, int, int]
    norm_groups: int = 32


FULL: Final = Scale((320, 640, 1280, 1280), (128, 256, 512, 512), (1024, 24, 16), (1280, 32, 16))
SMALL: Final = Scale((64, 128, 256, 256), (64, 64, 64, 64), (512, 2, 8), (512, 2, 8))
"""64 M weights in its UNet; on two cores a step of 8 frames takes about two seconds."""


@dataclass(frozen=True)
class Parts:
    """Random weights, none of them zero. Each arm takes its own copy of the UNet."""

    unet: Any
    vae: Any
    text_encoder: Any
    image_encoder: Any
    tokenizer: Any
    device: torch.device
    dtype: torch.dtype


def draw_parts(scale: Scale, device: torch.device) -> Parts:
    """Draw a model on the device, bfloat16 on a card and float32 on a CPU."""
    dtype = torch.float32 if device.type == "cpu" else torch.bfloat16
    torch.manual_seed(20)
    with device:
        drawn = as_initialised(scale)
    unet, vae, text_encoder, image_encoder = (_ready(each, dtype) for each in drawn)
    with tempfile.TemporaryDirectory(prefix="stillreel-bench-") as name:
        folder = small_i2vgen_xl(Path(name))
        tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer")
    return Parts(unet, vae, text_encoder, image_encoder, tokenizer, device, dtype)


def as_initialised(scale: Scale) -> tuple[Any, Any, Any, Any]:
    """Return UNet, VAE and the encoders of text and image, made by the libraries."""
    return _unet(scale), _vae(scale), _text_encoder(scale), _image_encoder(scale)


def stock(parts: Parts) -> GivenSample:
    """Return diffusers' pipeline over the parts."""
    processor = {
        name: value for name, value in PREPROCESSOR.items() if name != "image_processor_type"
    }
    pipeline: GivenSample = shimmed(
        GivenSample(
            vae=parts.vae,
            text_encoder=parts.text_encoder,
            tokenizer=parts.tokenizer,
            image_encoder=parts.image_encoder,
            feature_extractor=CLIPImageProcessor(**processor),
            unet=deepcopy(parts.unet),
            scheduler=i2vgen_scheduler(),
        )
    )
    return pipeline


def ours(parts: Parts) -> Model:
    """Return our model over the parts."""
    unet = deepcopy(parts.unet)
    prepare(unet)
    return Model(
        tokenizer=parts.tokenizer,
        text_encoder=parts.text_encoder,
        image_encoder=parts.image_encoder,
        vae=parts.vae,
        unet=unet,
        scheduler=i2vgen_scheduler(),
        pixel_mean=(0.48145466, 0.4578275, 0.40821073),
        pixel_std=(0.26862954, 0.26130258, 0.27577711),
        device=parts.device,
        dtype=parts.dtype,
    )


def apart(model: Model) -> Model:
    """Return the model with its own UNet and VAE, whose memory layout may differ."""
    return replace(model, unet=deepcopy(model.unet), vae=deepcopy(model.vae))


def without_encoders(model: Model) -> Model:
    """Return the model with its own copies of the encoders, which wait on the host."""
    text, image = deepcopy(model.text_encoder).cpu(), deepcopy(model.image_encoder).cpu()
    return replace(model, text_encoder=text, image_encoder=image)


def resident_bytes(model: Model) -> int:
    """Return the size of the weights that are on the model's device."""
    parts = (model.unet, model.vae, model.text_encoder, model.image_encoder)
    weights = [weight for part in parts for weight in part.parameters()]
    return sum(each.nbytes for each in weights if each.device.type == model.device.type)


def _unet(scale: Scale) -> Any:
    return I2VGenXLUNet(
        sample_size=32,
        block_out_channels=scale.unet_channels,
        cross_attention_dim=scale.text[0],
        norm_num_groups=scale.norm_groups,
    )


def _vae(scale: Scale) -> Any:
    blocks = len(scale.vae_channels)
    return AutoencoderKL(
        block_out_channels=scale.vae_channels,
        down_block_types=("DownEncoderBlock2D",) * blocks,
        up_block_types=("UpDecoderBlock2D",) * blocks,
        layers_per_block=2,
        latent_channels=4,
        scaling_factor=0.18215,
    )


def _text_encoder(scale: Scale) -> Any:
    width, layers, heads = scale.text
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=49408,
            hidden_size=width,
            intermediate_size=4 * width,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            projection_dim=width,
            hidden_act="gelu",
        )
    )


def _image_encoder(scale: Scale) -> Any:
    width, layers, heads = scale.image
    return CLIPVisionModelWithProjection(
        CLIPVisionConfig(
            hidden_size=width,
            intermediate_size=4 * width,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            projection_dim=scale.text[0],
            hidden_act="gelu",
            image_size=224,
            patch_size=14,
        )
    )


def _ready(model: Any, dtype: torch.dtype) -> Any:
    with torch.no_grad():
        for weight in model.parameters():
            if not weight.any():
                weight.normal_(std=0.02)
    return model.to(dtype).eval().requires_grad_(False)
