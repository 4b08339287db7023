"""A draft's steps: fewer steps, by one of diffusers' own samplers in our loop."""

from dataclasses import dataclass
from typing import Any

import torch
from diffusers import DPMSolverMultistepScheduler


@dataclass(frozen=True)
class DraftStep:
    """A step of a sampler that remembers the predictions before it, so no step may be left out."""

    timestep: int
    scheduler: Any

    @torch.no_grad()
    def advance(self, latents: torch.Tensor, prediction: torch.Tensor) -> torch.Tensor:
        following: torch.Tensor = self.scheduler.step(
            prediction, self.timestep, latents, return_dict=False
        )[0]
        return following


def draft_steps(scheduler: Any, count: int) -> tuple[DraftStep, ...]:
    """Return the steps of DPM-Solver++ over the model's own noise, the noisiest first.

    The times are spaced from the end ("trailing"): the model was trained to begin from pure noise,
    but the spacing of its own scheduler leaves that out, and a few steps cannot make up for it.
    """
    config = {**scheduler.config, "timestep_spacing": "trailing"}
    solver: Any = DPMSolverMultistepScheduler.from_config(config)
    # As an array, because numpy 2 warns about the library's way of making one from a tensor.
    solver.alphas_cumprod = solver.alphas_cumprod.numpy()
    solver.set_timesteps(count)
    return tuple(DraftStep(int(when), solver) for when in solver.timesteps)
