"""A decoder's pixels, -1 to 1, as the bytes of frames."""

import torch

from shared.errors import NonFiniteFrames
from worker.engines.base import Frames
from worker.engines.diffusion.faults import NOT_FINITE


@torch.no_grad()
def to_frames(pixels: torch.Tensor) -> Frames:
    """Return uint8 RGB (n, height, width, 3) for pixels (3, n, height, width).

    Raises:
        NonFiniteFrames: the decoder produced NaN or infinity.
    """
    is_finite = torch.isfinite(pixels).all()
    rounded = pixels.float().mul(127.5).add(127.5).round().clamp(0, 255).to(torch.uint8)
    frames: Frames = rounded.permute(1, 2, 3, 0).contiguous().cpu().numpy()
    if not bool(is_finite):
        raise NonFiniteFrames(NOT_FINITE)
    return frames
