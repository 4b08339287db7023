"""Clips of random numbers for a model of one block, denoised in some hundredths of a second."""

from pathlib import Path
from typing import Any, Final

import torch

from tests.support.arms import our_model
from tests.support.checkpoints import WIDTH, Shape, small_i2vgen_xl
from worker.engines.i2vgen.compiled import WarmShape
from worker.engines.i2vgen.conditions import Conditions
from worker.engines.i2vgen.ddim import ddim_steps
from worker.engines.i2vgen.denoise import Guidance, denoise
from worker.engines.i2vgen.denoiser import Denoiser
from worker.engines.i2vgen.memory import NORMAL, Room
from worker.engines.i2vgen.weights import Model

ONE_BLOCK: Final = Shape(
    unet_channels=(4,), unet_down=("CrossAttnDownBlock3D",), head_width=4, vae_channels=(2, 4)
)


def one_block(folder: Path) -> Model:
    return our_model(small_i2vgen_xl(folder, ONE_BLOCK))


def run(
    model: Model,
    given: Conditions,
    latents: torch.Tensor,
    *,
    scale: float = 9.0,
    count: int = 2,
    compiled: Any = None,
    use: Any = NORMAL,
) -> torch.Tensor:
    """Return the denoised noise."""
    denoiser, steps = Denoiser(model.unet), ddim_steps(model.scheduler, count)
    return denoise(
        Guidance(denoiser, scale, compiled),
        denoiser.constants(given, steps),
        steps,
        latents,
        lambda done: None,
        room=Room(use, model.device),
    )


def drawn(shape: WarmShape, seed: int) -> tuple[Conditions, torch.Tensor]:
    size = (1, 4, shape.frames, shape.height, shape.width)
    latents = torch.randn(size, generator=torch.Generator().manual_seed(seed))
    return conditions(latents, seed), latents


def conditions(latents: torch.Tensor, seed: int) -> Conditions:
    generator = torch.Generator().manual_seed(100 + seed)
    return Conditions(
        text=torch.randn((2, 77, WIDTH), generator=generator),
        image=torch.randn((2, 1, WIDTH), generator=generator),
        latents=torch.randn(latents.shape, generator=generator),
        fps=8 + seed,
    )
