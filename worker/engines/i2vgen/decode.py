"""From latents to frames, a few at a time, finished as bytes on the device."""

from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple, Protocol

import torch

from shared.errors import NonFiniteFrames
from worker.engines.base import Frames
from worker.engines.diffusion.faults import NOT_FINITE
from worker.engines.diffusion.in_flight import event_recorder
from worker.engines.i2vgen.weights import Model

STARTED_AHEAD: Final = 2  # One chunk decodes while the one before it goes into ffmpeg.


class Levels(NamedTuple):
    """Frames on the device, uint8 RGB (n, height, width, 3), and if all numbers were finite."""

    frames: torch.Tensor
    finite: torch.Tensor


@torch.no_grad()
def levels(vae: Any, latents: torch.Tensor) -> Levels:
    """Return the VAE's frames for latents (n, 4, h, w), in its own precision."""
    pixels = vae.decode(latents, return_dict=False)[0]
    finite = torch.isfinite(pixels).all()
    rounded = pixels.float().mul(127.5).add(127.5).round().clamp(0, 255)
    return Levels(rounded.to(torch.uint8).permute(0, 2, 3, 1).contiguous(), finite)


class Chunk:
    """Frames on their way to the host; starting one does not wait."""

    def __init__(self, made: Levels) -> None:
        self._frames, self._finite = _to_host(made.frames), _to_host(made.finite)
        record = event_recorder(made.frames.device)
        self._arrived = record() if record else None

    def __len__(self) -> int:
        return len(self._frames)

    def frames(self) -> Frames:
        """Wait for the frames, (n, height, width, 3), and return them.

        Raises:
            NonFiniteFrames: the VAE produced NaN or infinity.
        """
        if self._arrived is not None:
            self._arrived.synchronize()
        if not bool(self._finite):
            raise NonFiniteFrames(NOT_FINITE)
        frames: Frames = self._frames.numpy()
        return frames


def start(
    model: Model, latents: torch.Tensor, run: Callable[[Any, torch.Tensor], Levels] = levels
) -> Chunk:
    """Begin to decode latents (1, 4, n, h, w), float32; `run` is `levels` or its compiled form."""
    by_frame = (latents / model.vae.config.scaling_factor)[0].transpose(0, 1).contiguous()
    return Chunk(run(model.vae, by_frame.to(model.dtype)))


def decode(model: Model, latents: torch.Tensor) -> Frames:
    """Return uint8 RGB frames for latents (1, 4, n, h, w), as `Chunk.frames`."""
    return start(model, latents).frames()


class Started(Protocol):
    def __len__(self) -> int: ...

    def frames(self) -> Frames: ...


def in_order(begin: Callable[[int], Started], total: int, *, ahead: int) -> Iterator[Frames]:
    """Yield `total` frames, chunk by chunk, with up to `ahead` chunks begun.

    Args:
        begin: called to begin the chunk whose first frame has this number.
    """
    waiting: deque[Started] = deque()
    begun = 0
    while begun < total or waiting:
        while begun < total and len(waiting) < ahead:
            waiting.append(begin(begun))
            begun += len(waiting[-1])
        yield waiting.popleft().frames()


def chunks_ahead(device: torch.device) -> int:
    """Return how many chunks to begin at once: on a CPU a chunk is finished when it is begun."""
    return 1 if device.type == "cpu" else STARTED_AHEAD


def _to_host(tensor: torch.Tensor) -> torch.Tensor:
    """Copy without waiting, into memory that the card can write by itself."""
    if not tensor.is_cuda:
        return tensor
    place = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
    return place.copy_(tensor, non_blocking=True)
