"""A small Wan engine, and requests it renders in moments."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from shared.engines.parameters import RenderParameters
from shared.engines.spec import Fit
from shared.settings import Settings
from tests.support import checkpoints  # One thread for each test process.
from tests.support.photos import coffee
from worker.engines.base import Frames, Image, RenderRequest, Step
from worker.engines.wan.engine import WanEngine
from worker.engines.wan.model import Model
from worker.engines.wan.tiny import Kind, tiny_wan

__all__ = ["asked", "engine", "ignore", "ignore_progress", "loaded", "model_of", "rendered"]

ONE_THREAD = checkpoints  # Imported for its effect: torch stays on one thread.


def engine(folder: Path, **changed: Any) -> WanEngine:
    return WanEngine(Settings(model_dir=folder, _env_file=None, **changed))


def loaded(folder: Path, kind: Kind = "ti2v-5b", **changed: Any) -> WanEngine:
    """Return a loaded engine over a small checkpoint in `folder`, built if necessary."""
    built = engine(tiny_wan(folder, kind), **changed)
    built.load("cpu", ignore_progress)
    return built


def model_of(wan: WanEngine) -> Model:
    assert wan.model is not None
    return wan.model


def asked(image: Image | None = None, **changed: object) -> RenderRequest:
    """Return a request for 9 frames of 128 x 64; `changed` are parameters."""
    values: Mapping[str, object] = {
        "prompt": "the steam rises",
        "negative_prompt": "blurry",
        "resolution": None,
        "width": 128,
        "height": 64,
        "fit": Fit.CROP,
        "num_frames": 9,
        "fps": 8,
        "num_inference_steps": 3,
        "guidance_scale": 5.0,
        "seed": 7,
    }
    picture = coffee() if image is None else image
    return RenderRequest(picture, RenderParameters.model_validate({**values, **changed}))


def rendered(wan: WanEngine, request: RenderRequest) -> Frames:
    return np.concatenate(list(wan.render(request, ignore)))


def ignore(step: Step) -> None:
    """Report nothing."""


def ignore_progress(fraction: float, what: str) -> None:
    """Report nothing."""
