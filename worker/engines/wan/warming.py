"""A clip of one step that nobody asked for; code is compiled while it runs."""

from dataclasses import replace

import numpy as np

from shared.engines.parameters import RenderParameters
from shared.engines.spec import Fit
from worker.engines.base import RenderRequest, Step
from worker.engines.diffusion.encodings import Encodings
from worker.engines.wan.model import Model
from worker.engines.wan.pipeline import clip_latents


def render_one_step(model: Model, width: int, height: int, frames: int) -> None:
    """Denoise a grey image once, both rows, and discard the latents."""
    parameters = RenderParameters(
        prompt="",
        negative_prompt="",
        resolution=None,
        width=width,
        height=height,
        fit=Fit.CROP,
        num_frames=frames,
        fps=8,
        num_inference_steps=1,
        guidance_scale=2.0,
        seed=0,
    )
    grey = np.full((height, width, 3), 128, np.uint8)
    # With encodings of its own: what jobs made stays.
    alone = replace(model, encodings=Encodings(entries=2))
    clip_latents(alone, RenderRequest(grey, parameters), _ignore)


def _ignore(step: Step) -> None:
    """Report nothing, because no job waits for these steps."""
