"""The denoising loop: guided predictions, one small step at a time, two of them in flight."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

import torch

from worker.engines.diffusion.clip_loop import check_finite
from worker.engines.diffusion.in_flight import InFlight, event_recorder
from worker.engines.i2vgen.denoiser import Constants, Denoiser
from worker.engines.i2vgen.memory import NORMAL, MemoryUse, Room
from worker.engines.i2vgen.steps import ClipStep


class WarmPredictions(Protocol):
    def predict(
        self, latents: torch.Tensor, constants: Constants, step: int, scale: float
    ) -> torch.Tensor | None:
        """Return a guided prediction of both rows; None for a shape that was not warmed."""


class Guidance:
    """Guided predictions: both rows in one pass, or one after the other if memory is short."""

    def __init__(
        self, denoiser: Denoiser, scale: float, compiled: WarmPredictions | None = None
    ) -> None:
        self._denoiser = denoiser
        self._scale = scale
        self._compiled = compiled

    def predict(
        self,
        latents: torch.Tensor,
        constants: Constants,
        step: int,
        use: MemoryUse = NORMAL,
    ) -> torch.Tensor:
        """Return (1, 4, frames, h, w)."""
        if not use.one_row_at_a_time:
            if self._compiled is not None:
                found = self._compiled.predict(latents, constants, step, self._scale)
                if found is not None:
                    return found
            return self._combined(self._denoiser.predict(latents, constants, step))
        each = (constants.row(row) for row in range(constants.rows))
        rows = [self._denoiser.predict(latents, row, step) for row in each]
        return self._combined(torch.cat(rows))

    @torch.no_grad()
    def _combined(self, rows: torch.Tensor) -> torch.Tensor:
        if rows.shape[0] == 1:
            return rows
        unguided, guided = rows.chunk(2)
        return unguided + self._scale * (guided - unguided)


def denoise(
    guidance: Guidance,
    constants: Constants,
    steps: Sequence[ClipStep],
    noise: torch.Tensor,
    on_finished: Callable[[int], None],
    *,
    room: Room,
    on_launched: Callable[[int, torch.Tensor], None] | None = None,
) -> torch.Tensor:
    """Return the clip's latents, (1, 4, frames, h, w), float32.

    Args:
        noise: the starting latents, on the device.
        on_finished: called with 1, 2, … as the device finishes each step; may raise.
        room: the object that decides how many rows to compute at once.
        on_launched: called with each step's number and latents, which the device has not finished
            yet; it may give the device more work with them.

    Raises:
        NonFiniteFrames: the latents are not numbers, after the first step or at the end.
    """
    latents = noise
    in_flight = InFlight(event_recorder(noise.device), on_finished)
    for index, step in enumerate(steps):
        prediction = room.within(partial(guidance.predict, latents, constants, index))
        latents = step.advance(latents, prediction)
        if index == 0:  # Broken weights show at once, so the clip's other steps are not computed.
            check_finite(latents)
        if on_launched is not None:
            on_launched(index + 1, latents)
        in_flight.launched(index + 1)
    in_flight.drain()
    check_finite(latents)
    return latents
