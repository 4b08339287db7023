"""The steps of a sampler for the loop: their times, and how each moves the latents."""

from typing import Protocol

import torch


class ClipStep(Protocol):
    """One step of a clip, the noisiest first; each is taken once and in order."""

    @property
    def timestep(self) -> int: ...

    def advance(self, latents: torch.Tensor, prediction: torch.Tensor) -> torch.Tensor:
        """Return the latents after this step; all three (1, 4, frames, h, w), float32."""
