"""Previews for a class that we do not know: the form of its latents is read from their shape.

Their scale is not known either. So a frame of latents is compared with the image's own latents
after both are brought to mean 0 and spread 1, channel by channel.
"""

import logging
from functools import partial
from typing import Any, Final

import torch

from worker.engines.base import Image
from worker.engines.diffusion.faults import is_memory
from worker.engines.diffusion.parts import UNREADABLE
from worker.engines.diffusion.preview import LEAST_SPREAD, Previews, fit_by_encoding
from worker.engines.generic.model import Model

log = logging.getLogger(__name__)

MULTIPLE: Final = 32  # In pixels, as in the spec.
OF_IMAGES: Final = ("AutoencoderKL", "AutoencoderKLTemporalDecoder")
"""The VAEs that encode images, (n, 3, h, w); others encode clips, (n, 3, frames, h, w)."""


def previews_of(model: Model, frame: Image, *, steps: int) -> Previews | None:
    """Return the clip's previews, None if the VAE cannot give an image's latents.

    A clip never fails because of previews, whatever an unknown VAE raises, except on a full
    device.

    Args:
        frame: the framed image, as the class gets it.
    """
    try:
        latent_map = fit_by_encoding(
            partial(_encoded, model.pipeline.vae), frame, multiple=MULTIPLE, device=model.device
        )
    except UNREADABLE as error:
        if isinstance(error, RuntimeError) and is_memory(error):
            raise
        log.info("no_previews: %s: %s", model.folder.call.kind, type(error).__name__)
        return None
    channels = len(latent_map.mean)
    height, width = (side // model.pixels_per_latent for side in frame.shape[:2])

    def one_frame(latents: torch.Tensor) -> torch.Tensor | None:
        found = middle_frame(latents, channels=channels, height=height, width=width)
        return None if found is None else standardised(found)

    return Previews(latent_map, steps=steps, one_frame=one_frame)


def middle_frame(
    latents: torch.Tensor, *, channels: int, height: int, width: int
) -> torch.Tensor | None:
    """Return one frame, (channels, height, width), of latents in one of the forms there are.

    The forms are (1, channels, frames, h, w), (1, frames, channels, h, w) and (1, frames * h * w,
    channels). If the shape does not tell which it is, the result is None.
    """
    shape = tuple(latents.shape)
    if len(shape) == 3 and shape[2] == channels and shape[1] % (height * width) == 0:
        by_frame = latents[0].unflatten(0, (-1, height, width))
        return by_frame[len(by_frame) // 2].permute(2, 0, 1)
    if len(shape) != 5 or shape[3:] != (height, width) or shape[1] == shape[2]:
        return None
    if shape[1] == channels:
        return latents[0, :, shape[2] // 2]
    return latents[0, shape[1] // 2] if shape[2] == channels else None


def standardised(latents: torch.Tensor) -> torch.Tensor:
    """Return latents (channels, h, w) with mean 0 and spread 1 in each channel, float32."""
    given = latents.float()
    mean = given.mean(dim=(1, 2), keepdim=True)
    return (given - mean) / given.std(dim=(1, 2), keepdim=True).clamp(min=LEAST_SPREAD)


@torch.no_grad()
def _encoded(vae: Any, pixels: torch.Tensor) -> torch.Tensor:
    """Return the latents of one image, (channels, h, w): the mean, where others draw a sample."""
    given = pixels.to(vae.dtype)
    if type(vae).__name__ not in OF_IMAGES:
        given = given[:, :, None]
    latents = vae.encode(given).latent_dist.mode()[0]
    return standardised(latents[:, 0] if latents.dim() == 4 else latents)
