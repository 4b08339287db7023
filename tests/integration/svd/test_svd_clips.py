"""SVD's clips equal those of diffusers' own pipeline."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import StableVideoDiffusionPipeline
from PIL import Image as PillowImage

from tests.support.small_models import FAMILIES, ignore, loaded, model_of, over, rendered
from worker.engines.base import RenderRequest
from worker.engines.framing import framed
from worker.engines.svd.engine import SvdEngine
from worker.engines.svd.pipeline import clip_latents
from worker.engines.svd.tiny import tiny_svd

pytestmark = pytest.mark.extended

brief = FAMILIES["svd"].brief


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_svd(tmp_path_factory.mktemp("svd"))


@pytest.fixture(scope="module")
def svd(folder: Path) -> SvdEngine:
    return loaded(over(SvdEngine, folder))


@pytest.fixture(scope="module")
def stock(folder: Path) -> Any:
    pipeline = StableVideoDiffusionPipeline.from_pretrained(folder, dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    # The array has the same numbers. It only avoids a warning of numpy 2.
    pipeline.scheduler.alphas_cumprod = pipeline.scheduler.alphas_cumprod.numpy()
    return pipeline


def by_stock(stock: Any, request: RenderRequest, output: str, chunk: int) -> Any:
    given = request.parameters
    return stock(
        PillowImage.fromarray(framed(request.image, given)),
        width=given.width,
        height=given.height,
        num_frames=given.num_frames,
        fps=given.fps,
        num_inference_steps=given.num_inference_steps,
        max_guidance_scale=given.guidance_scale,
        generator=torch.Generator("cpu").manual_seed(given.seed),
        decode_chunk_size=chunk,
        output_type=output,
    ).frames


@pytest.mark.parametrize("guidance_scale", [1.0, 3.0])
def test_latents_match_the_reference(svd: SvdEngine, stock: Any, guidance_scale: float) -> None:
    request = brief(guidance_scale=guidance_scale)

    latents = clip_latents(model_of(svd), request, ignore)

    reference = by_stock(stock, request, "latent", 8)
    assert float((latents - reference).norm() / reference.norm()) <= 1e-4


@pytest.mark.parametrize(("memory", "chunk"), [("normal", 8), ("low", 4)])
def test_frames_match_the_reference_decoded_in_the_chunks_of_the_plan(
    folder: Path, stock: Any, memory: str, chunk: int
) -> None:
    svd, request = loaded(over(SvdEngine, folder, memory=memory)), brief()

    frames = rendered(svd, request)

    assert svd.plan(request)["decode_frames"] == chunk
    reference = (by_stock(stock, request, "np", chunk)[0] * 255).round().astype(np.int16)
    assert np.abs(frames.astype(np.int16) - reference).max() <= 1
