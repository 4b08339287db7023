"""What a clip's previews show: each another picture, at the end in the photo's colours."""

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from shared.lifecycle import Stage
from shared.settings import Settings
from tests.support import small_engine
from tests.support.checkpoints import small_i2vgen_xl
from tests.support.photos import Photo
from tests.support.small_wan import asked, ignore_progress
from worker.engines.animatediff.engine import AnimateDiffEngine
from worker.engines.animatediff.tiny import tiny_animatediff
from worker.engines.base import RenderRequest, Step
from worker.engines.diffusion.preview import fit
from worker.engines.framing import frame_image
from worker.engines.i2vgen.denoise import Guidance
from worker.engines.i2vgen.engine import I2VGenXLEngine
from worker.engines.i2vgen.pipeline import clip_noise, encode
from worker.engines.svd.engine import SvdEngine
from worker.engines.svd.tiny import tiny_svd
from worker.engines.wan.engine import WanEngine
from worker.engines.wan.tiny import tiny_wan

STEPS = 6
SHOWN = [2, 4, 6]
SMALL_SVD: dict[str, Any] = {"num_frames": 8, "width": 64, "guidance_scale": 3.0}

ENGINES: dict[str, tuple[Any, Callable[[Path], Path], Callable[[], RenderRequest]]] = {
    "animatediff": (
        AnimateDiffEngine,
        tiny_animatediff,
        lambda: asked(num_inference_steps=STEPS, num_frames=8, width=64),
    ),
    "i2vgen-xl": (
        I2VGenXLEngine,
        small_i2vgen_xl,
        lambda: small_engine.brief(num_inference_steps=STEPS),
    ),
    "wan": (WanEngine, tiny_wan, lambda: asked(num_inference_steps=STEPS)),
    "svd": (SvdEngine, tiny_svd, lambda: asked(num_inference_steps=STEPS, **SMALL_SVD)),
}


def previews(engine: Any, request: RenderRequest) -> list[tuple[int, Photo]]:
    """Render, and return the steps that had a picture, with it."""
    steps: list[Step] = []
    for _ in engine.render(request, steps.append):
        pass
    denoising = [step for step in steps if step.stage is Stage.DENOISING]
    assert [step.index for step in denoising] == list(range(1, STEPS + 1))
    assert all(step.preview is None for step in steps if step.stage is not Stage.DENOISING)
    return [(step.index, step.preview) for step in denoising if step.preview is not None]


def loaded(name: str, folder: Path) -> Any:
    kind, build, _ = ENGINES[name]
    engine = kind(Settings(model_dir=build(folder / name), _env_file=None))
    engine.load("cpu", ignore_progress)
    return engine


def framed(request: RenderRequest) -> Photo:
    given = request.parameters
    frame: Photo = frame_image(
        request.image, width=given.width, height=given.height, fit=given.fit
    )
    return frame


@pytest.mark.parametrize(
    "name", ["i2vgen-xl", "wan", "animatediff", pytest.param("svd", marks=pytest.mark.extended)]
)
def test_a_clip_shows_a_new_small_picture_every_few_steps(name: str, tmp_path: Path) -> None:
    request = ENGINES[name][2]()

    found = previews(loaded(name, tmp_path), request)

    assert [step for step, _ in found] == SHOWN
    pictures = [picture for _, picture in found]
    given = request.parameters
    for picture in pictures:
        height, width, _ = picture.shape
        assert picture.dtype == np.uint8
        assert (height, width) <= (given.height // 8, given.width // 8)
        assert width / height == pytest.approx(given.width / given.height, rel=0.1)
        assert picture.std() > 0
    for before, after in itertools.pairwise(pictures):
        assert not np.array_equal(before, after)
    # These weights are random: what they make is in the photo's colours all the same.
    colour = framed(request).mean(axis=(0, 1))
    assert np.abs(pictures[0].mean(axis=(0, 1)) - colour).max() < 40


def test_a_denoiser_that_comes_to_the_photo_shows_the_photo(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The denoiser's place is taken by one that knows the end: the photo in every frame."""
    engine = loaded("i2vgen-xl", tmp_path)
    request = small_engine.brief(num_inference_steps=STEPS)
    clean = own_latents(engine, request)[None, :, None]
    schedule = engine.model.scheduler
    schedule.set_timesteps(STEPS)
    times = list(schedule.timesteps)

    def predict(
        self: Guidance, latents: torch.Tensor, constants: Any, step: int, use: Any = None
    ) -> torch.Tensor:
        kept = schedule.alphas_cumprod[times[step]]
        noise = (latents - kept.sqrt() * clean) / (1 - kept).sqrt()
        return kept.sqrt() * noise - (1 - kept).sqrt() * clean

    monkeypatch.setattr(Guidance, "predict", predict)
    found = [picture for _, picture in previews(engine, request)]

    photo = framed(request)
    own = own_latents(engine, request)
    # As much as a linear map gets out of the latents of this VAE, whose weights are random.
    best = fit(own, photo).picture(own, done=1.0).numpy()
    likeness = [float(np.corrcoef(each.ravel(), best.ravel())[0, 1]) for each in found]
    assert likeness == sorted(likeness)
    assert likeness[0] < 0.9 < 0.97 < likeness[-1]
    assert np.abs(found[-1].mean(axis=(0, 1)) - photo.mean(axis=(0, 1))).max() < 10


def own_latents(engine: Any, request: RenderRequest) -> torch.Tensor:
    """Return the latents of the request's picture, (channels, h, w)."""
    noise = clip_noise(engine.model, request.parameters)
    return encode(engine.model, request, noise, lambda step: None).latents[0, :, 0]
