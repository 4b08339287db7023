"""Each preview of a clip is another image, and the last one has the photo's colours."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from shared.lifecycle import Stage
from tests.support import small_engine
from tests.support.photos import Photo
from tests.support.small_models import FAMILIES, model_of, told
from worker.engines.base import RenderRequest
from worker.engines.diffusion.preview import fit
from worker.engines.framing import framed
from worker.engines.i2vgen.denoise import Guidance
from worker.engines.i2vgen.pipeline import clip_noise, encode

STEPS = 6
SHOWN = [2, 4, 6]


def previews(engine: Any, request: RenderRequest) -> list[tuple[int, Photo]]:
    """Render, and return each step that had a preview, with that preview."""
    steps = told(engine, request)
    denoising = [step for step in steps if step.stage is Stage.DENOISING]
    assert [step.index for step in denoising] == list(range(1, STEPS + 1))
    assert all(step.preview is None for step in steps if step.stage is not Stage.DENOISING)
    return [(step.index, step.preview) for step in denoising if step.preview is not None]


IN_MAKE_TEST = ("i2vgen-xl", "wan", "animatediff", "diffusers: LTX")


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name in IN_MAKE_TEST else pytest.mark.extended)
        for name in FAMILIES
    ],
)
def test_a_clip_shows_a_new_small_image_every_few_steps(name: str, tmp_path: Path) -> None:
    family = FAMILIES[name]
    request = family.brief(num_inference_steps=STEPS)

    found = previews(family.loaded(family.build(tmp_path / "small")), request)

    assert [step for step, _ in found] == SHOWN
    images = [image for _, image in found]
    given = request.parameters
    for image in images:
        height, width, _ = image.shape
        assert image.dtype == np.uint8
        assert max(height, width) <= max(given.height, given.width) // 4
        assert width / height == pytest.approx(given.width / given.height, rel=0.1)
        assert image.std() > 0
    for before, after in itertools.pairwise(images):
        assert not np.array_equal(before, after)
    # The weights are random, but the previews still have the photo's colours.
    colour = framed(request.image, request.parameters).mean(axis=(0, 1))
    assert np.abs(images[0].mean(axis=(0, 1)) - colour).max() < 40


def test_a_denoiser_that_comes_to_the_photo_shows_the_photo(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The denoiser is replaced by one that knows the result: the photo in every frame."""
    family = FAMILIES["i2vgen-xl"]
    engine = family.loaded(family.build(tmp_path / "small"))
    request = small_engine.brief(num_inference_steps=STEPS)
    clean = own_latents(engine, request)[None, :, None]
    schedule = model_of(engine).scheduler
    schedule.set_timesteps(STEPS)
    times = list(schedule.timesteps)

    def predict(
        self: Guidance, latents: torch.Tensor, constants: Any, step: int, use: Any = None
    ) -> torch.Tensor:
        kept = schedule.alphas_cumprod[times[step]]
        noise = (latents - kept.sqrt() * clean) / (1 - kept).sqrt()
        return kept.sqrt() * noise - (1 - kept).sqrt() * clean

    monkeypatch.setattr(Guidance, "predict", predict)
    found = [image for _, image in previews(engine, request)]

    photo = framed(request.image, request.parameters)
    own = own_latents(engine, request)
    # This is the most that a linear map gets out of the latents of this VAE, because its weights
    # are random.
    best = fit(own, photo).image(own, done=1.0).numpy()
    likeness = [float(np.corrcoef(each.ravel(), best.ravel())[0, 1]) for each in found]
    assert likeness == sorted(likeness)
    assert likeness[0] < 0.9 < 0.97 < likeness[-1]
    assert np.abs(found[-1].mean(axis=(0, 1)) - photo.mean(axis=(0, 1))).max() < 10


def own_latents(engine: Any, request: RenderRequest) -> torch.Tensor:
    """Return the latents of the request's image, (channels, h, w)."""
    noise = clip_noise(engine.model, request.parameters)
    return encode(engine.model, request, noise, lambda step: None).latents[0, :, 0]
