"""A folder's clips equal those of its class, whichever class that is, and depend on the seed."""

import itertools
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from PIL import Image as PillowImage

from shared.errors import RenderFailed
from shared.settings import Settings
from tests.support.photos import astronaut, coffee
from tests.support.small_diffusers import COGVIDEOX_SIDE, SMALL, served, small_ltx
from tests.support.small_models import asked, loaded, model_of, rendered, told
from worker.engines import build, chosen
from worker.engines.base import Image, RenderRequest
from worker.engines.framing import framed
from worker.engines.generic.engine import GenericEngine


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {name: build(tmp_path_factory.mktemp(name)) for name, build in SMALL.items()}


@pytest.fixture(scope="module")
def engines(folders: dict[str, Path]) -> dict[str, GenericEngine]:
    return {name: loaded(served(folder)) for name, folder in folders.items()}


@pytest.fixture
def ltx(folders: dict[str, Path]) -> GenericEngine:
    """Return a new engine, whose parts a test may break."""
    return loaded(served(folders["ltx"]))


def brief(image: Image | None = None, **changed: Any) -> RenderRequest:
    side = COGVIDEOX_SIDE
    values = {"num_frames": 9, "num_inference_steps": 2, "width": side, "height": side}
    return asked(image, **{**values, **changed})


@pytest.mark.parametrize(
    ("name", "last"),
    [
        *((name, None) for name in SMALL),
        pytest.param("wan", astronaut(), marks=pytest.mark.extended, id="wan-to a last frame"),
    ],
)
def test_frames_match_the_reference(
    folders: dict[str, Path], engines: dict[str, GenericEngine], name: str, last: Image | None
) -> None:
    request = replace(brief(), last_frame=last)
    given = request.parameters
    kind = model_of(engines[name]).folder.call.kind
    stock = getattr(diffusers, kind).from_pretrained(folders[name], dtype=torch.float32)
    stock.set_progress_bar_config(disable=True)
    own: dict[str, Any] = {"frame_rate": given.fps} if name == "ltx" else {}
    if last is not None:
        own["last_image"] = PillowImage.fromarray(framed(last, given))

    reference = stock(
        image=PillowImage.fromarray(framed(request.image, given)),
        prompt=given.prompt,
        negative_prompt=given.negative_prompt,
        width=given.width,
        height=given.height,
        num_frames=given.num_frames,
        num_inference_steps=given.num_inference_steps,
        guidance_scale=given.guidance_scale,
        generator=torch.Generator("cpu").manual_seed(given.seed),
        output_type="np",
        **own,
    ).frames[0]

    ours = rendered(engines[name], request).astype(np.int16)
    assert np.abs(ours - (reference * 255).round().astype(np.int16)).max() <= 1


@pytest.mark.parametrize(
    ("name", "num_frames", "made"),
    [
        ("ltx", 6, 9),
        ("ltx", 5, 5),
        pytest.param("cogvideox", 6, 9, marks=pytest.mark.extended),
        pytest.param("wan", 6, 9, marks=pytest.mark.extended),
    ],
)
def test_more_frames_are_made_than_asked_for_and_the_rest_is_cut(
    engines: dict[str, GenericEngine], name: str, num_frames: int, made: int
) -> None:
    request = brief(num_frames=num_frames)
    assert engines[name].plan(request)["frames_rendered"] == made
    assert len(rendered(engines[name], request)) == num_frames


def test_a_class_of_one_size_is_given_that_and_its_frames_are_fitted(
    engines: dict[str, GenericEngine],
) -> None:
    request = brief(width=96)
    assert engines["cogvideox"].plan(request)["size_rendered"] == "64 x 64"
    assert rendered(engines["cogvideox"], request).shape == (9, 64, 96, 3)
    assert "size_rendered" not in engines["ltx"].plan(request)


def test_a_last_frame_changes_the_clip(engines: dict[str, GenericEngine]) -> None:
    ends = (None, coffee(), astronaut())
    clips = {
        rendered(engines["wan"], replace(brief(), last_frame=each)).tobytes() for each in ends
    }
    assert len(clips) == len(ends)


def test_a_vae_that_cannot_be_asked_costs_the_previews_and_no_clip(ltx: GenericEngine) -> None:
    before = rendered(ltx, brief())
    pipeline = model_of(ltx).pipeline
    encode = pipeline.vae.encode
    calls = itertools.count()

    def refuse_the_first(pixels: torch.Tensor) -> Any:
        if next(calls) == 0:
            raise NotImplementedError("clips only")
        return encode(pixels)

    pipeline.vae.encode = refuse_the_first
    assert all(step.preview is None for step in told(ltx, brief()))
    assert next(calls) > 1
    calls = itertools.count()
    assert np.array_equal(rendered(ltx, brief()), before)


def test_values_that_the_class_refuses_end_the_job_with_its_words(
    engines: dict[str, GenericEngine],
) -> None:
    with pytest.raises(RenderFailed, match=r"LTXImage.* these values: .* divisible by 32") as end:
        rendered(engines["ltx"], brief(width=72))
    assert not end.value.retryable


def test_fewer_frames_than_asked_for_are_no_clip(
    ltx: GenericEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    short = SimpleNamespace(frames=np.zeros((1, 5, 64, 64, 3), dtype=np.float32))
    monkeypatch.setattr(type(model_of(ltx).pipeline), "__call__", lambda *_, **__: short)
    with pytest.raises(RenderFailed, match="gave 5 frames, but 9 were asked for"):
        rendered(ltx, brief())


@pytest.mark.extended
def test_low_memory_gives_the_same_frames(
    folders: dict[str, Path], engines: dict[str, GenericEngine]
) -> None:
    low = loaded(served(folders["ltx"], memory="low"))
    assert low.plan(brief())["memory"] == "low"
    assert np.array_equal(rendered(low, brief()), rendered(engines["ltx"], brief()))


def test_the_setting_names_the_engine_and_its_class_says_what_it_takes(tmp_path: Path) -> None:
    folder = small_ltx(tmp_path)
    entry = chosen(f"camera,mine=diffusers:{folder}", has_gpu=True)["mine"]
    spec = build(entry, Settings(_env_file=None)).spec
    assert (spec.name, spec.title) == ("mine", "mine (LTXImageToVideoPipeline)")
    assert (spec.defaults.num_frames, spec.defaults.fps, spec.defaults.guidance_scale) == (
        161,
        25,
        3,
    )
    assert (spec.uses_negative_prompt, spec.prompt_languages) == (True, ("en",))
    assert (spec.licence.commercial_use, spec.vram_bytes > 100_000) == ("ask", True)
