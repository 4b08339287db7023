"""Measures how far a draft is from the exact clip: python -m bench.draft [--device cuda].

The standard sampler and others with fewer steps denoise the same noise, image and words. With a
small random checkpoint this shows how the samplers differ as solvers of one equation, and nothing
about what people see. `--model-dir` names a folder of real weights, which does.
"""

import argparse
import statistics
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from bench.arms import relative_error
from shared.engines.parameters import RenderParameters, RequestedParameters, resolve_parameters
from shared.engines.spec import Quality
from shared.settings import Settings
from tests.support.checkpoints import FAITHFUL, small_i2vgen_xl
from tests.support.photos import astronaut, coffee, rocket
from worker.engines.base import Frames, RenderRequest
from worker.engines.i2vgen.decode import decode
from worker.engines.i2vgen.engine import SPEC, I2VGenXLEngine
from worker.engines.i2vgen.pipeline import clip_noise, denoised, encode
from worker.engines.i2vgen.weights import Model

IMAGES: Final = (astronaut, rocket, coffee)


@dataclass(frozen=True)
class Strayed:
    """The relative error of the latents, and the likeness of the frames to the exact ones."""

    latents: float
    psnr: float
    ssim: float


@dataclass(frozen=True)
class Way:
    """One way to denoise in fewer steps, or in more steps of the standard sampler."""

    name: str
    changes: dict[str, object]


WAYS: Final = (
    *(
        Way(f"draft, {steps} steps", {"quality": Quality.DRAFT, "num_inference_steps": steps})
        for steps in (10, 15, 20, 25)
    ),
    *(
        Way(f"the exact sampler, {steps} steps", {"num_inference_steps": steps})
        for steps in (20, 200)
    ),
)


def strayed(model: Model, request: RenderRequest) -> list[Strayed]:
    """Return how the clip of each of `WAYS` differs from the standard clip."""
    exact, frames = rendered(model, request)
    found = []
    for way in WAYS:
        parameters = request.parameters.model_copy(update=way.changes)
        other, others = rendered(model, replace(request, parameters=parameters))
        similar = [_similar(*pair) for pair in zip(frames, others, strict=True)]
        psnr = float(peak_signal_noise_ratio(frames, others))
        found.append(Strayed(relative_error(other, exact), psnr, statistics.mean(similar)))
    return found


def rendered(model: Model, request: RenderRequest) -> tuple[torch.Tensor, Frames]:
    parameters: RenderParameters = request.parameters
    noise = clip_noise(model, parameters)
    conditions = encode(model, request, noise, _silent)
    latents = denoised(model, parameters, conditions, noise, _silent)
    frames = [decode(model, latents[:, :, each : each + 1]) for each in range(latents.shape[2])]
    return latents, np.concatenate(frames)


def requests(side: int, frames: int, count: int) -> list[RenderRequest]:
    made = []
    for number in range(count):
        image = IMAGES[number % len(IMAGES)]()
        asked = RequestedParameters(
            prompt="a slow, gentle motion", width=side, height=side, num_frames=frames, seed=number
        )
        height, width = image.shape[:2]
        settled = resolve_parameters(SPEC, asked, image_width=width, image_height=height, seed=0)
        made.append(RenderRequest(image, settled))
    return made


def table(clips: Sequence[Sequence[Strayed]]) -> str:
    """Return the medians over the clips, a line for each of `WAYS`."""
    lines = ["| sampler | latents' error | PSNR of frames | SSIM |", "|---|--:|--:|--:|"]
    for way, each in zip(WAYS, zip(*clips, strict=True), strict=True):
        error, psnr, ssim = (_median(each, name) for name in ("latents", "psnr", "ssim"))
        lines.append(f"| {way.name} | {error:.3f} | {psnr:.1f} dB | {ssim:.4f} |")
    return "\n".join(lines)


def _median(found: Sequence[Strayed], name: str) -> float:
    return statistics.median(getattr(each, name) for each in found)


def _similar(ours: Frames, theirs: Frames) -> float:
    similar: Callable[..., Any] = structural_similarity
    return float(similar(ours, theirs, channel_axis=2))


def _silent(step: object) -> None:
    """Report nothing."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--model-dir", type=Path, help="real weights; else small random ones")
    parser.add_argument("--side", type=int, default=64)
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--clips", type=int, default=3)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="stillreel-bench-") as name:
        folder = asked.model_dir or small_i2vgen_xl(Path(name), FAITHFUL)
        engine = I2VGenXLEngine(Settings(model_dir=folder, _env_file=None))
        engine.load("cpu" if asked.device == "cpu" else "cuda:0", lambda fraction, what: None)
    assert engine.model is not None
    clips = requests(asked.side, asked.frames, asked.clips)
    print(table([strayed(engine.model, each) for each in clips]))


if __name__ == "__main__":
    main()
