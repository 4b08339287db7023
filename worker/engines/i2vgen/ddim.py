"""DDIM's steps as plain numbers, so that no step of the loop reads a number from the device."""

from dataclasses import dataclass
from math import sqrt
from typing import Any

import torch

from shared.errors import MissingWeights


@dataclass(frozen=True)
class DdimStep:
    """x becomes `keep` * x + `follow` * v at `timestep`, v being the guided prediction."""

    timestep: int
    keep: float
    follow: float

    @torch.no_grad()
    def advance(self, latents: torch.Tensor, prediction: torch.Tensor) -> torch.Tensor:
        return (latents * self.keep).add_(prediction, alpha=self.follow)


def ddim_steps(scheduler: Any, count: int) -> tuple[DdimStep, ...]:
    """Return the steps of a deterministic DDIM run of `count` steps, the noisiest first.

    With v-prediction and no clipping, both the predicted image and the predicted noise are linear
    in x and v, and so is the step: two numbers describe it completely.

    Raises:
        MissingWeights: the checkpoint's scheduler is of another kind.
    """
    config = scheduler.config
    if config.prediction_type != "v_prediction" or config.clip_sample or config.thresholding:
        raise MissingWeights(
            "the checkpoint's scheduler is not I2VGen-XL's: it must predict v and not clip"
        )
    scheduler.set_timesteps(count)
    stride = config.num_train_timesteps // count
    alphas = [float(alpha) for alpha in scheduler.alphas_cumprod]
    return tuple(
        _step(t, alphas[t], alphas[t - stride] if t >= stride else _last(scheduler))
        for t in scheduler.timesteps.tolist()
    )


def _last(scheduler: Any) -> float:
    return float(scheduler.final_alpha_cumprod)


def _step(timestep: int, alpha: float, previous: float) -> DdimStep:
    signal, noise = sqrt(alpha), sqrt(1 - alpha)
    to_signal, to_noise = sqrt(previous), sqrt(1 - previous)
    return DdimStep(
        timestep=timestep,
        keep=to_signal * signal + to_noise * noise,
        follow=to_noise * signal - to_signal * noise,
    )
