"""Latents to frames, a few at a time, finished as bytes on the device."""

import numpy as np
import torch

from shared.errors import NonFiniteFrames
from worker.engines.base import Frames
from worker.engines.i2vgen.faults import NOT_FINITE
from worker.engines.i2vgen.weights import Model


@torch.inference_mode()
def decode(model: Model, latents: torch.Tensor) -> Frames:
    """Return uint8 RGB frames, (n, height, width, 3).

    Args:
        latents: (1, 4, n, h, w), float32.

    Raises:
        NonFiniteFrames: the VAE produced NaN or infinity.
    """
    by_frame = (latents / model.vae.config.scaling_factor)[0].transpose(0, 1)
    pixels = model.vae.decode(by_frame.to(model.dtype), return_dict=False)[0]
    finite = torch.isfinite(pixels).all()
    levels = pixels.float().mul_(127.5).add_(127.5).round_().clamp_(0, 255).to(torch.uint8)
    frames: Frames = levels.permute(0, 2, 3, 1).contiguous().cpu().numpy()
    if not bool(finite):
        raise NonFiniteFrames(NOT_FINITE)
    return frames


def one_colour(frames: Frames) -> bool:
    """Say whether every frame, (…, height, width, 3), is one flat colour, give or take a level."""
    flat = frames.reshape(-1, frames.shape[-3] * frames.shape[-2], 3)
    spread = flat.max(axis=1).astype(np.int16) - flat.min(axis=1)
    return bool(spread.max() <= 2)
