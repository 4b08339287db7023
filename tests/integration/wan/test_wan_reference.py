"""Wan's clips equal those of diffusers' own pipeline, loaded from the same folder.

The stock arm runs as it ships, with one exception: the pipeline cleans prompts with ftfy, which is
not installed, and a function that changes nothing replaces it. ftfy changes nothing in a prompt of
clean Unicode either.
"""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import WanImageToVideoPipeline
from diffusers.pipelines.wan import pipeline_wan_i2v
from PIL import Image as PillowImage

from tests.support.photos import astronaut
from tests.support.small_models import asked, ignore, model_of, rendered, small_wan
from worker.engines.base import RenderRequest
from worker.engines.framing import framed
from worker.engines.wan.engine import WanEngine
from worker.engines.wan.pipeline import clip_latents
from worker.engines.wan.tiny import Kind

BOUND = 1e-4
pytestmark = pytest.mark.extended

KINDS: tuple[Kind, ...] = ("ti2v-5b", "i2v-a14b")


@pytest.fixture(scope="module", params=KINDS)
def arms(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[WanEngine, Any]:
    folder = tmp_path_factory.mktemp(request.param)
    ours = small_wan(folder, request.param)
    stock = WanImageToVideoPipeline.from_pretrained(folder, dtype=torch.float32)
    stock.set_progress_bar_config(disable=True)
    return ours, stock


@pytest.fixture(autouse=True)
def no_ftfy(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in = SimpleNamespace(fix_text=lambda text: text)
    monkeypatch.setattr(pipeline_wan_i2v, "ftfy", stand_in, raising=False)


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"guidance_scale": 1.0},
        {"prompt": "the  &lt;steam&gt;\n rises " * 40, "negative_prompt": ""},
        {"width": 64, "height": 96, "num_frames": 5, "num_inference_steps": 8},
    ],
    ids=["guided", "unguided", "cut prompt", "portrait"],
)
def test_latents_match_the_reference(arms: tuple[WanEngine, Any], changed: dict[str, Any]) -> None:
    ours, stock = arms
    request = asked(**changed)

    latents = clip_latents(model_of(ours), request, ignore)

    reference = by_stock(stock, request, "latent")
    assert latents.shape == reference.shape
    assert float((latents - reference).norm() / reference.norm()) <= BOUND


def test_a_last_frame_is_what_the_reference_makes_of_it(arms: tuple[WanEngine, Any]) -> None:
    ours, stock = arms
    request = replace(asked(), last_frame=astronaut())

    latents = clip_latents(model_of(ours), request, ignore)

    reference = by_stock(stock, request, "latent")
    assert float((latents - reference).norm() / reference.norm()) <= BOUND


def test_frames_match_the_reference(arms: tuple[WanEngine, Any]) -> None:
    """This shows that decoding one latent frame at a time equals decoding the whole clip."""
    ours, stock = arms
    request = asked()

    frames = rendered(ours, request)

    reference = (by_stock(stock, request, "np")[0] * 255).round().astype(np.int16)
    assert frames.shape == reference.shape
    assert np.abs(frames.astype(np.int16) - reference).max() <= 1


def by_stock(stock: Any, request: RenderRequest, output: str) -> Any:
    given = request.parameters
    last = request.last_frame
    return stock(
        image=PillowImage.fromarray(framed(request.image, given)),
        last_image=None if last is None else PillowImage.fromarray(framed(last, given)),
        prompt=given.prompt,
        negative_prompt=given.negative_prompt,
        width=given.width,
        height=given.height,
        num_frames=given.num_frames,
        num_inference_steps=given.num_inference_steps,
        guidance_scale=given.guidance_scale,
        generator=torch.Generator("cpu").manual_seed(given.seed),
        output_type=output,
    ).frames
