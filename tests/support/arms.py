"""Our pipeline and diffusers' over one small checkpoint, with the same noise and image."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import torch

from shared.engines.parameters import RenderParameters
from shared.engines.spec import Fit
from shared.settings import Settings
from tests.support.photos import photo
from tests.support.stock import GivenSample, shimmed
from worker.engines.base import RenderRequest, Step
from worker.engines.i2vgen.conditions import Conditions, Noise
from worker.engines.i2vgen.engine import I2VGenXLEngine
from worker.engines.i2vgen.pipeline import clip_noise, denoised, encode
from worker.engines.i2vgen.weights import Model

STEPS: Final = 8


@dataclass(frozen=True)
class Arms:
    """Ours and the reference over the same checkpoint, each loaded by itself."""

    ours: Model
    stock: GivenSample

    def run_ours(
        self,
        request: RenderRequest,
        change: Callable[[Conditions], Conditions] = lambda conditions: conditions,
    ) -> torch.Tensor:
        noise, conditions = self.conditions(request)
        return denoised(self.ours, request.parameters, change(conditions), noise, silent)

    def run_stock(
        self, request: RenderRequest, latents: torch.Tensor | None = None
    ) -> torch.Tensor:
        noise, conditions = self.conditions(request)
        given = conditions.latents if latents is None else latents
        found: torch.Tensor = self.stock.render(request, noise, given, "latent")
        return found

    def conditions(self, request: RenderRequest) -> tuple[Noise, Conditions]:
        noise = clip_noise(self.ours, request.parameters)
        return noise, encode(self.ours, request, noise, silent)


def our_model(checkpoint: Path) -> Model:
    engine = I2VGenXLEngine(Settings(model_dir=checkpoint, _env_file=None))
    engine.load("cpu", lambda fraction, what: None)
    assert engine.model is not None
    return engine.model


def stock_pipeline(checkpoint: Path, dtype: torch.dtype) -> GivenSample:
    pipeline: GivenSample = shimmed(GivenSample.from_pretrained(checkpoint, dtype=dtype))
    return pipeline


def halved(checkpoint: Path, dtype: torch.dtype = torch.bfloat16) -> Arms:
    """Return both arms in half precision, as on a card."""
    model = our_model(checkpoint)
    for part in (model.text_encoder, model.image_encoder, model.vae, model.unet):
        part.to(dtype)
    return Arms(replace(model, dtype=dtype), stock_pipeline(checkpoint, dtype))


class Recorder:
    """A scheduler that keeps every sample it returns, in the video's own layout."""

    def __init__(self, scheduler: Any) -> None:
        self._scheduler = scheduler
        self.samples: list[torch.Tensor] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._scheduler, name)

    def step(self, prediction: Any, timestep: Any, sample: Any, **options: Any) -> Any:
        output = self._scheduler.step(prediction, timestep, sample, **options)
        self.samples.append(output.prev_sample[None].transpose(1, 2))
        return output


def asked(size: tuple[int, int], guidance: float, **changed: object) -> RenderRequest:
    """Return a request whose image is as tall as the clip is wide; `changed` are parameters.

    The stock pipeline then resamples the image once on its way to CLIP, as ours does.
    """
    width, height = size
    parameters = RenderParameters(
        prompt="the rocket slowly rises",
        negative_prompt="blurry",
        resolution=None,
        width=width,
        height=height,
        fit=Fit.CROP,
        num_frames=8,
        fps=12,
        num_inference_steps=STEPS,
        guidance_scale=guidance,
        seed=7,
    )
    return RenderRequest(
        photo("rocket.jpg", short_side=width), parameters.model_copy(update=changed)
    )


def distance(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    """Return the relative L2 error."""
    return float((ours - theirs).norm() / theirs.norm())


def silent(step: Step) -> None:
    """Report nothing."""
