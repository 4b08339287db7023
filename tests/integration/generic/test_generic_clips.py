"""A folder's clips are those of its class, whichever that is, and the seed decides them."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from PIL import Image as PillowImage

from shared.errors import Drained, MissingWeights, NonFiniteFrames, RenderFailed
from shared.lifecycle import Stage
from shared.settings import Settings
from tests.support.photos import astronaut
from tests.support.small_diffusers import COGVIDEOX_SIDE, SMALL, served, small_ltx
from tests.support.small_wan import asked, ignore, ignore_progress
from worker.engines import build, chosen
from worker.engines.base import Frames, Image, RenderRequest, Step
from worker.engines.framing import frame_image
from worker.engines.generic.engine import GenericEngine
from worker.engines.generic.model import Model


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {name: build(tmp_path_factory.mktemp(name)) for name, build in SMALL.items()}


@pytest.fixture(scope="module")
def engines(folders: dict[str, Path]) -> dict[str, GenericEngine]:
    return {name: loaded(folder) for name, folder in folders.items()}


@pytest.fixture
def ltx(folders: dict[str, Path]) -> GenericEngine:
    """Return an engine of the test's own, whose parts it may break."""
    return loaded(folders["ltx"])


def loaded(folder: Path, **settings: Any) -> GenericEngine:
    engine = served(folder, **settings)
    engine.load("cpu", ignore_progress)
    return engine


def model_of(engine: GenericEngine) -> Model:
    assert engine.model is not None
    return engine.model


def brief(image: Image | None = None, **changed: Any) -> RenderRequest:
    side = COGVIDEOX_SIDE
    values = {"num_frames": 9, "num_inference_steps": 2, "width": side, "height": side}
    return asked(image, **{**values, **changed})


def rendered(engine: GenericEngine, request: RenderRequest) -> Frames:
    return np.concatenate(list(engine.render(request, ignore)))


@pytest.mark.parametrize("name", SMALL)
def test_frames_match_the_reference(
    folders: dict[str, Path], engines: dict[str, GenericEngine], name: str
) -> None:
    request = brief()
    given = request.parameters
    kind = model_of(engines[name]).folder.call.kind
    stock = getattr(diffusers, kind).from_pretrained(folders[name], dtype=torch.float32)
    stock.set_progress_bar_config(disable=True)
    frame = frame_image(request.image, width=given.width, height=given.height, fit=given.fit)
    fps = {"frame_rate": given.fps} if name == "ltx" else {}

    reference = stock(
        image=PillowImage.fromarray(frame),
        prompt=given.prompt,
        negative_prompt=given.negative_prompt,
        width=given.width,
        height=given.height,
        num_frames=given.num_frames,
        num_inference_steps=given.num_inference_steps,
        guidance_scale=given.guidance_scale,
        generator=torch.Generator("cpu").manual_seed(given.seed),
        output_type="np",
        **fps,
    ).frames[0]

    ours = rendered(engines[name], request).astype(np.int16)
    assert np.abs(ours - (reference * 255).round().astype(np.int16)).max() <= 1


@pytest.mark.extended
@pytest.mark.parametrize("name", SMALL)
def test_all_that_is_given_decides_the_clip_and_the_global_seed_does_not(
    engines: dict[str, GenericEngine], name: str
) -> None:
    torch.manual_seed(1)
    first = rendered(engines[name], brief())
    torch.manual_seed(2)
    assert np.array_equal(rendered(engines[name], brief()), first)

    changed: list[RenderRequest] = [
        brief(seed=8),
        brief(prompt="all falls"),
        brief(negative_prompt="still"),
        brief(guidance_scale=2.0),
        brief(num_inference_steps=3),
        brief(astronaut()),
    ]
    clips = {rendered(engines[name], request).tobytes() for request in changed}
    assert len(clips | {first.tobytes()}) == len(changed) + 1


@pytest.mark.extended
@pytest.mark.parametrize("name", SMALL)
def test_a_stop_leaves_the_engine_as_it_was(engines: dict[str, GenericEngine], name: str) -> None:
    engine, told = engines[name], list[Step]()
    undisturbed = rendered(engine, brief())

    def stop(step: Step) -> None:
        told.append(step)
        if len(told) == 2:
            raise Drained("stopping")

    with pytest.raises(Drained):
        list(engine.render(brief(), stop))
    assert [(step.index, step.total, step.stage) for step in told] == [
        (1, 2, Stage.DENOISING),
        (2, 2, Stage.DENOISING),
    ]
    assert np.array_equal(rendered(engine, brief()), undisturbed)


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
    with pytest.raises(RenderFailed, match="gave 5 frames and 9 were asked for"):
        rendered(ltx, brief())


def test_numbers_that_are_not_finite_end_at_the_first_step(ltx: GenericEngine) -> None:
    calls: list[object] = []

    def spoil(part: Any, inputs: Any, output: Any) -> Any:
        calls.append(None)
        return (output[0] * float("nan"),)

    model_of(ltx).pipeline.transformer.register_forward_hook(spoil)
    with pytest.raises(NonFiniteFrames):
        rendered(ltx, brief(guidance_scale=1.0, num_inference_steps=6))
    assert len(calls) == 1


def test_weights_that_are_not_numbers_are_named(ltx: GenericEngine) -> None:
    list(model_of(ltx).weighted["transformer"].parameters())[-1].data.fill_(float("nan"))
    with pytest.raises(MissingWeights, match="transformer has weights that are not numbers"):
        rendered(ltx, brief())


@pytest.mark.extended
def test_low_memory_gives_the_same_frames(
    folders: dict[str, Path], engines: dict[str, GenericEngine]
) -> None:
    low = loaded(folders["ltx"], memory="low")
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
