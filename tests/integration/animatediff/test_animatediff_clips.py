"""AnimateDiff's clips equal those of diffusers' pipeline, and every given image changes them."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AnimateDiffSparseControlNetPipeline
from PIL import Image as PillowImage

from shared.engines.spec import Honours
from shared.lifecycle import Stage
from tests.support.photos import astronaut, coffee
from tests.support.small_models import (
    FAMILIES,
    ignore,
    loaded,
    model_of,
    over,
    passes,
    rendered,
)
from worker.engines.animatediff.engine import AnimateDiffEngine
from worker.engines.animatediff.pipeline import clip_latents, keyframes_of
from worker.engines.animatediff.tiny import tiny_animatediff
from worker.engines.base import Image, RenderRequest, Step


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_animatediff(tmp_path_factory.mktemp("animatediff"))


@pytest.fixture(scope="module")
def engine(folder: Path) -> AnimateDiffEngine:
    return loaded(over(AnimateDiffEngine, folder))


@pytest.fixture(scope="module")
def stock(folder: Path) -> Any:
    """Return diffusers' pipeline, which takes each encoded image's mean instead of a sample."""
    pipeline = AnimateDiffSparseControlNetPipeline.from_pretrained(folder, dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    # The array has the same numbers. It only avoids a warning of numpy 2.
    pipeline.scheduler.alphas_cumprod = pipeline.scheduler.alphas_cumprod.numpy()
    encode = pipeline.vae.encode

    def mean(pixels: torch.Tensor) -> Any:
        return SimpleNamespace(latents=encode(pixels).latent_dist.mode())

    pipeline.vae.encode = mean
    return pipeline


brief = FAMILIES["animatediff"].brief


def with_keyframes(keyframes: Mapping[int, Image], **changed: Any) -> RenderRequest:
    return replace(brief(**changed), keyframes=keyframes)


def by_stock(stock: Any, request: RenderRequest, output: str) -> Any:
    given, keyframes = request.parameters, keyframes_of(request)
    return stock(
        prompt=given.prompt,
        negative_prompt=given.negative_prompt,
        conditioning_frames=[PillowImage.fromarray(each) for each in keyframes.values()],
        controlnet_frame_indices=list(keyframes),
        width=given.width,
        height=given.height,
        num_frames=given.num_frames,
        num_inference_steps=given.num_inference_steps,
        guidance_scale=given.guidance_scale,
        generator=torch.Generator("cpu").manual_seed(given.seed),
        output_type=output,
    ).frames


REQUESTS = {
    "guided": brief(),
    "unguided": brief(guidance_scale=1.0),
    "with keyframes": with_keyframes({3: astronaut(), 6: coffee()[::-1]}),
    "to a last frame": replace(brief(num_frames=9), last_frame=astronaut()),
}


@pytest.mark.parametrize("request_", REQUESTS.values(), ids=REQUESTS)
def test_latents_match_the_reference(
    engine: AnimateDiffEngine, stock: Any, request_: RenderRequest
) -> None:
    latents = clip_latents(model_of(engine), request_, ignore)

    reference = by_stock(stock, request_, "latent")
    assert float((latents - reference).norm() / reference.norm()) <= 1e-4


@pytest.mark.extended
def test_frames_match_the_reference(engine: AnimateDiffEngine, stock: Any) -> None:
    request = brief(num_frames=9)

    frames = rendered(engine, request)

    reference = (by_stock(stock, request, "np")[0] * 255).round().astype(np.int16)
    assert np.abs(frames.astype(np.int16) - reference).max() <= 1


def test_the_image_and_every_keyframe_change_the_clip(engine: AnimateDiffEngine) -> None:
    requests = [
        brief(),
        brief(astronaut()),
        with_keyframes({4: astronaut()}),
        with_keyframes({5: astronaut()}),
        with_keyframes({4: coffee()}),
        with_keyframes({4: astronaut(), 6: coffee()}),
        with_keyframes({4: astronaut(), 6: astronaut()}),
        replace(brief(), last_frame=astronaut()),
        replace(brief(), last_frame=coffee()),
    ]
    clips = {rendered(engine, request).tobytes() for request in requests}
    assert len(clips) == len(requests)


@pytest.mark.extended
def test_keyframes_count_wherever_they_stand_in_the_request(engine: AnimateDiffEngine) -> None:
    first, second = {3: astronaut(), 6: coffee()}, {6: coffee(), 3: astronaut()}
    clips = [rendered(engine, with_keyframes(each)) for each in (first, second)]
    assert np.array_equal(clips[0], clips[1])


def test_steps_are_told_as_they_are_done(engine: AnimateDiffEngine) -> None:
    told: list[Step] = []

    def keep(step: Step) -> None:
        told.append(step)

    list(engine.render(brief(num_frames=9), keep))
    assert [(s.index, s.total) for s in told if s.stage is Stage.DENOISING] == [(1, 2), (2, 2)]
    assert [s.index for s in told if s.stage is Stage.DECODING] == [2, 4, 6, 8, 9]


@pytest.mark.extended
def test_texts_and_images_are_encoded_once_for_clips_that_share_them(folder: Path) -> None:
    engine = loaded(over(AnimateDiffEngine, folder))
    model = model_of(engine)
    texts, images = passes(model.pipeline.text_encoder), passes(model.vae.encoder)
    for seed in (1, 2):
        rendered(engine, with_keyframes({4: astronaut()}, seed=seed))
    assert (len(texts), len(images)) == (2, 2)


def test_the_spec_takes_keyframes_and_says_what_the_licence_allows(
    engine: AnimateDiffEngine,
) -> None:
    spec = engine.spec
    assert {Honours.KEYFRAMES, Honours.LAST_FRAME} <= set(spec.honours)
    assert (spec.licence.commercial_use, spec.revision) == ("conditions", "local")
