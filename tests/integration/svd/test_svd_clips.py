"""SVD's clips are those of diffusers' own pipeline, and the seed and the picture decide them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import StableVideoDiffusionPipeline
from PIL import Image as PillowImage

from shared.errors import Drained, MissingWeights
from shared.settings import Settings
from tests.support.photos import astronaut
from tests.support.small_wan import asked, ignore, ignore_progress
from worker.engines.base import Frames, RenderRequest, Step
from worker.engines.framing import frame_image
from worker.engines.svd.engine import SvdEngine
from worker.engines.svd.pipeline import clip_latents
from worker.engines.svd.tiny import tiny_svd

pytestmark = pytest.mark.extended


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_svd(tmp_path_factory.mktemp("svd"))


@pytest.fixture(scope="module")
def svd(folder: Path) -> SvdEngine:
    return loaded(folder)


@pytest.fixture(scope="module")
def stock(folder: Path) -> Any:
    pipeline = StableVideoDiffusionPipeline.from_pretrained(folder, dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    # Only so that numpy 2 has nothing to warn of: the same numbers, as an array.
    pipeline.scheduler.alphas_cumprod = pipeline.scheduler.alphas_cumprod.numpy()
    return pipeline


def loaded(folder: Path, **changed: Any) -> SvdEngine:
    engine = SvdEngine(Settings(model_dir=folder, _env_file=None, **changed))
    engine.load("cpu", ignore_progress)
    return engine


def brief(image: Any = None, **changed: object) -> RenderRequest:
    values = {"num_frames": 8, "num_inference_steps": 2, "width": 64, "guidance_scale": 3.0}
    return asked(image, **{**values, **changed})


def rendered(svd: SvdEngine, request: RenderRequest) -> Frames:
    return np.concatenate(list(svd.render(request, ignore)))


def by_stock(stock: Any, request: RenderRequest, output: str, chunk: int) -> Any:
    given = request.parameters
    frame = frame_image(request.image, width=given.width, height=given.height, fit=given.fit)
    return stock(
        PillowImage.fromarray(frame),
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
    assert svd.model is not None

    latents = clip_latents(svd.model, request, ignore)

    reference = by_stock(stock, request, "latent", 8)
    assert float((latents - reference).norm() / reference.norm()) <= 1e-4


@pytest.mark.parametrize(("memory", "chunk"), [("normal", 8), ("low", 4)])
def test_frames_match_the_reference_decoded_in_the_chunks_of_the_plan(
    folder: Path, stock: Any, memory: str, chunk: int
) -> None:
    svd, request = loaded(folder, memory=memory), brief()

    frames = rendered(svd, request)

    assert svd.plan(request)["decode_frames"] == chunk
    reference = (by_stock(stock, request, "np", chunk)[0] * 255).round().astype(np.int16)
    assert np.abs(frames.astype(np.int16) - reference).max() <= 1


def test_the_global_seed_does_not_count(svd: SvdEngine) -> None:
    torch.manual_seed(1)
    first = rendered(svd, brief())
    torch.manual_seed(2)
    assert np.array_equal(rendered(svd, brief()), first)


@pytest.mark.parametrize(
    "changed",
    [{"seed": 8}, {"fps": 12}, {"guidance_scale": 2.0}, {"num_inference_steps": 3}],
    ids=lambda changed: str(next(iter(changed))),
)
def test_each_parameter_changes_the_clip(svd: SvdEngine, changed: dict[str, object]) -> None:
    assert not np.array_equal(rendered(svd, brief(**changed)), rendered(svd, brief()))


def test_the_picture_changes_the_clip(svd: SvdEngine) -> None:
    assert not np.array_equal(rendered(svd, brief(astronaut())), rendered(svd, brief()))


def test_a_stop_leaves_the_engine_as_it_was(svd: SvdEngine) -> None:
    undisturbed = rendered(svd, brief())

    def stop(step: Step) -> None:
        raise Drained("stopping")

    with pytest.raises(Drained):
        list(svd.render(brief(), stop))
    assert np.array_equal(rendered(svd, brief()), undisturbed)


def test_weights_that_are_not_numbers_are_named(folder: Path) -> None:
    svd = loaded(folder)
    assert svd.model is not None
    list(svd.model.weighted["unet"].parameters())[-1].data.fill_(float("nan"))

    with pytest.raises(MissingWeights, match="unet has weights that are not numbers"):
        rendered(svd, brief())
