"""The engine over a small checkpoint on the CPU, and clips it renders in a tenth of a second."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from shared.engines.parameters import RequestedParameters, resolve_parameters
from shared.settings import Settings
from tests.support.photos import Photo, astronaut
from worker.engines.base import Frames, OnStep, RenderRequest, Step
from worker.engines.i2vgen.engine import SPEC, I2VGenXLEngine


def loaded(checkpoint: Path, **settings: Any) -> I2VGenXLEngine:
    engine = I2VGenXLEngine(Settings(model_dir=checkpoint, _env_file=None, **settings))
    engine.load("cpu", lambda fraction, what: None)
    return engine


def brief(**changed: Any) -> RenderRequest:
    """Return a request that renders in a tenth of a second."""
    return quick(
        settled(astronaut(), RequestedParameters(resolution="256p", num_frames=8, seed=5)),
        **changed,
    )


def quick(request: RenderRequest, **changed: Any) -> RenderRequest:
    parameters = request.parameters.model_copy(
        update={"prompt": "a hand waves", "num_inference_steps": 3, **changed}
    )
    return replace(request, parameters=parameters)


def settled(image: Photo, asked: RequestedParameters) -> RenderRequest:
    parameters = resolve_parameters(
        SPEC, asked, image_width=image.shape[1], image_height=image.shape[0], seed=11
    )
    return RenderRequest(image, parameters)


def rendered(
    engine: I2VGenXLEngine, request: RenderRequest, on_step: OnStep | None = None
) -> Frames:
    return np.concatenate(list(engine.render(request, on_step or ignore)))


def ignore(step: Step) -> None:
    """Report nothing."""


def module(engine: I2VGenXLEngine, path: str) -> Any:
    """Return a part of the loaded model by its dotted name, such as `unet.conv_out`."""
    part, _, name = path.partition(".")
    return getattr(engine.model, part).get_submodule(name)
