"""The conditions of a clip: the prompt, the image, its latents; and the noise it starts from."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image as PillowImage

from worker.engines.base import Image
from worker.engines.i2vgen.weights import Model


@dataclass(frozen=True)
class Conditions:
    """All that stays the same over a clip's steps.

    With guidance there are two rows, the unguided one first. The image's latents and the frame
    rate are the same for both rows and kept once.
    """

    text: torch.Tensor  # (rows, tokens, width)
    image: torch.Tensor  # (rows, 1, width)
    latents: torch.Tensor  # (1, 4, frames, h, w): the image, then the position of each frame
    fps: int


@dataclass(frozen=True)
class Noise:
    """The clip's starting noise (1, 4, frames, h, w), and its image's (1, 4, h, w)."""

    clip: torch.Tensor
    image: torch.Tensor


def draw_noise(seed: int, *, frames: int, height: int, width: int) -> Noise:
    """Draw all random numbers of a clip on the CPU in float32, so that all cards get the same."""
    generator = torch.Generator("cpu").manual_seed(seed)
    return Noise(
        clip=torch.randn((1, 4, frames, height, width), generator=generator),
        image=torch.randn((1, 4, height, width), generator=generator),
    )


@torch.no_grad()
def encode_prompts(model: Model, prompts: list[str]) -> torch.Tensor:
    """Return (prompts, tokens, width): the last layer but one, through the final norm.

    The model was trained on that layer. A prompt past the encoder's 77 tokens is cut off.
    """
    tokens = model.tokenizer(
        prompts,
        padding="max_length",
        max_length=model.text_encoder.config.max_position_embeddings,
        truncation=True,
        return_tensors="pt",
    ).input_ids.to(model.device)
    layers = model.text_encoder(tokens, output_hidden_states=True).hidden_states
    return model.text_encoder.final_layer_norm(layers[-2])


@torch.no_grad()
def encode_image(model: Model, image: Image) -> torch.Tensor:
    """Return (1, 1, width): CLIP's embedding of the middle square of the whole image."""
    side = model.image_encoder.config.image_size
    pixels = np.asarray(
        _middle_square(image).resize((side, side), PillowImage.Resampling.BILINEAR),
        dtype=np.float32,
    )
    mean = np.array(model.pixel_mean, dtype=np.float32)
    std = np.array(model.pixel_std, dtype=np.float32)
    channels_first = torch.from_numpy((pixels / 255 - mean) / std).permute(2, 0, 1)[None]
    return model.image_encoder(channels_first.to(model.device, model.dtype)).image_embeds[:, None]


@torch.no_grad()
def encode_latents(model: Model, frame: Image, noise: torch.Tensor, frames: int) -> torch.Tensor:
    """Return (1, 4, frames, h, w): the framed image's latents, then each frame's position.

    The position of frame i of n is given as latents of the constant i / (n - 1). The VAE's sample
    is drawn from `noise`, so that the seed decides it too.
    """
    pixels = torch.from_numpy(frame).permute(2, 0, 1)[None].to(model.device)
    spread = model.vae.encode((pixels / 127.5 - 1).to(model.dtype)).latent_dist
    sample = spread.mean.float() + spread.std.float() * noise.to(model.device)
    places = torch.linspace(0, 1, frames, device=model.device)[None, None, :, None, None]
    latents = places.repeat(1, *sample.shape[1:2], 1, *sample.shape[2:])
    latents[:, :, 0] = sample * model.vae.config.scaling_factor
    return latents


def with_unguided(rows: torch.Tensor) -> torch.Tensor:
    """Return the rows after as many rows of zeros, which stand for no image in a guided clip."""
    return torch.cat([torch.zeros_like(rows), rows])


def _middle_square(image: Image) -> Any:
    side = min(image.shape[:2])
    top, left = (image.shape[0] - side) // 2, (image.shape[1] - side) // 2
    return PillowImage.fromarray(image[top : top + side, left : left + side])
