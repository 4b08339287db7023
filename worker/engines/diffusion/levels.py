"""A decoder's pixels, -1 to 1, as the bytes of frames, and the decode as steps of the job."""

from collections.abc import Iterable, Iterator

import torch

from shared.errors import NonFiniteFrames
from shared.lifecycle import Stage
from worker.engines.base import Frames, OnStep, Step
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


def told_as_decoded(chunks: Iterable[Frames], total: int, on_step: OnStep) -> Iterator[Frames]:
    """Yield the first `total` frames of the chunks, and report each chunk before it is yielded."""
    done = 0
    for chunk in chunks:
        frames = chunk[: total - done]
        if not len(frames):
            return
        done += len(frames)
        on_step(Step(done, total, Stage.DECODING))
        yield frames
