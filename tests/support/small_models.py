"""Each family of models over a small checkpoint on the CPU, and requests it renders in moments."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar

import numpy as np

from shared.engines.parameters import RenderParameters
from shared.engines.spec import Fit
from shared.settings import Settings
from tests.support import checkpoints  # One thread for each test process.
from tests.support.photos import coffee
from tests.support.small_diffusers import COGVIDEOX_SIDE, served, small_cogvideox, small_ltx
from worker.engines.animatediff.engine import AnimateDiffEngine
from worker.engines.animatediff.tiny import tiny_animatediff
from worker.engines.base import Frames, Image, OnStep, RenderRequest, Step, VideoEngine
from worker.engines.diffusion.engine import DiffusionEngine, ModelT
from worker.engines.i2vgen.engine import I2VGenXLEngine
from worker.engines.svd.engine import SvdEngine
from worker.engines.svd.tiny import tiny_svd
from worker.engines.wan.engine import WanEngine
from worker.engines.wan.tiny import Kind, tiny_wan

EngineT = TypeVar("EngineT", bound=DiffusionEngine[Any])


def ignore(step: Step) -> None:
    """Report nothing."""


def ignore_progress(fraction: float, what: str) -> None:
    """Report nothing."""


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
    given = coffee() if image is None else image
    return RenderRequest(given, RenderParameters.model_validate({**values, **changed}))


def over(kind: Callable[[Settings], EngineT], folder: Path, **settings: Any) -> EngineT:
    """Return an engine over the checkpoint of a folder, not loaded."""
    return kind(Settings(model_dir=folder, _env_file=None, **settings))


def loaded(engine: EngineT) -> EngineT:
    engine.load("cpu", ignore_progress)
    return engine


def small_wan(folder: Path, kind: Kind = "ti2v-5b", /, **settings: Any) -> WanEngine:
    """Return a loaded engine over a small checkpoint in `folder`, built if need be."""
    return loaded(over(WanEngine, tiny_wan(folder, kind), **settings))


def model_of(engine: DiffusionEngine[ModelT]) -> ModelT:
    assert engine.model is not None
    return engine.model


def rendered(engine: VideoEngine, request: RenderRequest, on_step: OnStep = ignore) -> Frames:
    return np.concatenate(list(engine.render(request, on_step)))


def told(engine: VideoEngine, request: RenderRequest) -> list[Step]:
    """Render, and return the steps as they were told."""
    steps: list[Step] = []
    rendered(engine, request, lambda step: steps.append(step))
    return steps


def passes(part: Any) -> list[object]:
    """Return a list that grows by one with each forward pass of the part."""
    seen: list[object] = []
    part.register_forward_hook(lambda *_: seen.append(None))
    return seen


@dataclass(frozen=True)
class Family:
    """`values` make a clip that takes a tenth of a second or so; `denoiser` is a part's name."""

    engine: Callable[[Path], DiffusionEngine[Any]]
    build: Callable[[Path], Path]
    denoiser: str
    values: Mapping[str, object] = field(default_factory=dict)

    def loaded(self, folder: Path) -> DiffusionEngine[Any]:
        return loaded(self.engine(folder))

    def brief(self, image: Image | None = None, **changed: object) -> RenderRequest:
        return asked(image, **{**self.values, **changed})


SMALL: Final = {"num_frames": 8, "num_inference_steps": 2, "width": 64}
SQUARE: Final = {"num_inference_steps": 2, "width": COGVIDEOX_SIDE, "height": COGVIDEOX_SIDE}

FAMILIES: Final[Mapping[str, Family]] = {
    "animatediff": Family(
        lambda folder: over(AnimateDiffEngine, folder), tiny_animatediff, "unet", SMALL
    ),
    "i2vgen-xl": Family(
        lambda folder: over(I2VGenXLEngine, folder),
        checkpoints.small_i2vgen_xl,
        "unet",
        {**SMALL, "width": 256, "height": 256},
    ),
    "svd": Family(
        lambda folder: over(SvdEngine, folder),
        tiny_svd,
        "unet",
        {**SMALL, "guidance_scale": 3.0},
    ),
    "wan": Family(lambda folder: over(WanEngine, folder), tiny_wan, "transformer"),
    "diffusers: LTX": Family(served, small_ltx, "transformer", SQUARE),
    "diffusers: CogVideoX": Family(served, small_cogvideox, "transformer", SQUARE),
    "diffusers: Wan": Family(
        served, lambda folder: tiny_wan(folder, "i2v-a14b"), "transformer", SQUARE
    ),
}
