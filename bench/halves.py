"""Measures the error of half precision against float32: ours beside diffusers', on one model.

Both predict every step from the same latents, which diffusers reaches in float32.
"""

from copy import deepcopy
from dataclasses import replace

import torch

from bench.arms import Warm, drawn, relative_error
from bench.case import Case
from bench.models import Parts, ours
from bench.report import Halves
from tests.support.stock import stock_prediction
from worker.engines.i2vgen.conditions import Conditions
from worker.engines.i2vgen.ddim import ddim_steps
from worker.engines.i2vgen.denoise import Guidance
from worker.engines.i2vgen.denoiser import Denoiser


def half_errors(parts: Parts, case: Case, count: int, warm: Warm | None) -> Halves:
    """Return the errors of `count` steps in the parts' precision; float32 parts use bfloat16.

    Args:
        warm: returns the compiled predictions; with None ours is eager.
    """
    model, request = ours(parts), case.request(0)
    dtype = torch.bfloat16 if parts.dtype is torch.float32 else parts.dtype
    scale = request.parameters.guidance_scale
    noise, given = drawn(model, request)
    steps = ddim_steps(model.scheduler, count)
    exact, stocks = deepcopy(parts.unet).float(), deepcopy(parts.unet).to(dtype)
    denoiser = Denoiser(model.unet.to(dtype))
    is_warm = warm is not None and warm.model.dtype is dtype
    guidance = Guidance(denoiser, scale, warm.compiled if warm and is_warm else None)
    constants = denoiser.constants(_cast(given, dtype), steps)
    latents = noise.clip.to(parts.device)
    found = Halves("compiled" if is_warm else "eager", [], [])
    # By default, cards compute convolutions of float32 with fewer bits.
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        for index, step in enumerate(steps):
            true, stock = (
                stock_prediction(unet, _cast(given, unet.dtype), latents, step.timestep, scale)
                for unet in (exact, stocks)
            )
            mine = guidance.predict(latents, constants, index)
            found.stock.append(relative_error(stock, true))
            found.ours.append(relative_error(mine, true))
            latents = step.advance(latents, true)
    return found


def _cast(given: Conditions, dtype: torch.dtype) -> Conditions:
    return replace(given, text=given.text.to(dtype), image=given.image.to(dtype))
