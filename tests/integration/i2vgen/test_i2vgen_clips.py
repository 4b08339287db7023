"""Clips of a small random checkpoint are complete, repeatable, cancelable, and as requested."""

import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch

from shared.engines.parameters import RequestedParameters
from shared.engines.spec import Preset
from shared.errors import LeaseLost, ModelLoading
from shared.lifecycle import Stage
from tests.support.checkpoints import small_i2vgen_xl
from tests.support.photos import Photo, astronaut, coffee, rocket
from tests.support.small_engine import brief, loaded, module, quick, rendered, settled
from worker.engines.base import Frames, Step
from worker.engines.i2vgen import conditions, pipeline
from worker.engines.i2vgen.engine import SPEC, I2VGenXLEngine

IMAGES: dict[str, Callable[[], Photo]] = {
    "person": astronaut,
    "landscape": rocket,
    "product": coffee,
}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_i2vgen_xl(tmp_path_factory.mktemp("quick"))


@pytest.fixture(scope="module")
def engine(checkpoint: Path) -> I2VGenXLEngine:
    return loaded(checkpoint)


@pytest.fixture(scope="module")
def plain(engine: I2VGenXLEngine) -> Frames:
    """Return the clip that other clips are compared with."""
    return rendered(engine, brief())


@pytest.fixture
def breakable(checkpoint: Path) -> I2VGenXLEngine:
    """Return a new engine, whose parts a test may break."""
    return loaded(checkpoint)


# tests/e2e/test_service.py renders the person through the whole service. Only that test renders
# the landscape, with 24 frames at 768p in 80 steps.
@pytest.mark.extended
@pytest.mark.parametrize("preset", SPEC.presets[::2], ids=lambda preset: preset.name)
def test_the_missions_cases_render_by_their_own_figures(
    engine: I2VGenXLEngine, preset: Preset, record_property: Callable[..., None]
) -> None:
    image = IMAGES[preset.name]()
    asked = RequestedParameters(
        prompt="a slow, gentle motion", **preset.model_dump(exclude={"name"})
    )
    request = settled(image, asked)
    steps: list[Step] = []

    began = time.monotonic()
    frames = rendered(engine, request, lambda step: steps.append(step))
    record_property("seconds", time.monotonic() - began)

    assert preset.resolution is not None
    assert frames.shape[0] == preset.num_frames
    assert min(frames.shape[1:3]) == preset.resolution.short_side
    assert frames.shape[1:] == (request.parameters.height, request.parameters.width, 3)
    assert [step.index for step in steps if step.stage is Stage.DENOISING] == list(
        range(1, (preset.num_inference_steps or 0) + 1)
    )
    assert np.abs(np.diff(frames.astype(np.int16), axis=0)).mean() > 1


def test_the_seed_alone_decides_the_frames(engine: I2VGenXLEngine) -> None:
    torch.manual_seed(1)
    first = rendered(engine, brief(seed=5))
    torch.manual_seed(2)
    again = rendered(engine, brief(seed=5))

    assert np.array_equal(first, again)
    assert not np.array_equal(first, rendered(engine, brief(seed=6)))


def test_the_seed_reaches_the_images_own_latents(
    engine: I2VGenXLEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = conditions.draw_noise
    first = rendered(engine, brief(seed=5))

    def same_start(seed: int, **sizes: int) -> Any:
        return replace(drawn(seed, **sizes), clip=drawn(5, **sizes).clip)

    monkeypatch.setattr(pipeline, "draw_noise", same_start)

    assert not np.array_equal(first, rendered(engine, brief(seed=6)))


@pytest.mark.parametrize(
    "changed",
    [
        {"prompt": "something else entirely"},
        {"fps": 24},
        *(
            pytest.param(changed, marks=pytest.mark.extended)
            for changed in (
                {"negative_prompt": "blurry"},
                {"guidance_scale": 3.0},
                {"num_inference_steps": 4},
            )
        ),
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_every_parameter_changes_the_frames(
    engine: I2VGenXLEngine, plain: Frames, changed: dict[str, Any]
) -> None:
    assert not np.array_equal(plain, rendered(engine, brief(**changed)))


def test_the_image_changes_the_frames(engine: I2VGenXLEngine, plain: Frames) -> None:
    other = replace(brief(), image=astronaut()[::-1].copy())

    assert not np.array_equal(plain, rendered(engine, other))


def test_a_portrait_padded_is_not_a_portrait_cropped(engine: I2VGenXLEngine) -> None:
    cropped = settled(rocket(), RequestedParameters(width=256, height=256, num_frames=8, seed=1))
    padded = settled(
        rocket(), RequestedParameters(width=256, height=256, num_frames=8, seed=1, fit="pad")
    )

    assert not np.array_equal(rendered(engine, quick(cropped)), rendered(engine, quick(padded)))


def test_sides_that_halve_to_an_odd_number_come_back_as_they_went(engine: I2VGenXLEngine) -> None:
    request = quick(settled(coffee(), RequestedParameters(width=704, height=320, num_frames=8)))

    assert rendered(engine, request).shape == (8, 320, 704, 3)


def test_steps_are_told_in_order_through_every_stage(engine: I2VGenXLEngine) -> None:
    steps: list[Step] = []
    rendered(engine, brief(), lambda step: steps.append(step))

    stages = [step.stage for step in steps]
    assert list(dict.fromkeys(stages)) == [
        Stage.ENCODING_INPUTS,
        Stage.DENOISING,
        Stage.DECODING,
    ]
    for stage in set(stages):
        indices = [step.index for step in steps if step.stage is stage]
        assert indices == sorted(set(indices))
        assert indices[-1] == next(step.total for step in steps if step.stage is stage)


# In `make test`, tests/contracts/test_engine.py stops a render at its first step.
@pytest.mark.parametrize(
    "stage",
    [
        pytest.param(Stage.ENCODING_INPUTS, marks=pytest.mark.extended),
        pytest.param(Stage.DENOISING, marks=pytest.mark.extended),
        Stage.DECODING,
    ],
)
def test_a_lost_lease_stops_the_render_where_it_is(engine: I2VGenXLEngine, stage: Stage) -> None:
    steps: list[Step] = []

    def lose(step: Step) -> None:
        steps.append(step)
        if step.stage is stage:
            raise LeaseLost("taken")

    with pytest.raises(LeaseLost):
        rendered(engine, brief(), lose)

    assert [step.stage for step in steps].count(stage) == 1
    assert steps[-1].stage is stage
    assert len(rendered(engine, brief())) == 8


def test_frames_are_yielded_as_they_are_decoded(engine: I2VGenXLEngine) -> None:
    steps: list[Step] = []
    chunks = engine.render(brief(), lambda step: steps.append(step))

    first = next(chunks)

    assert len(first) < 8
    assert steps[-1] == Step(len(first), 8, Stage.DECODING)
    assert len(first) + sum(len(chunk) for chunk in chunks) == 8


@pytest.mark.parametrize("guidance", [pytest.param(0.0, marks=pytest.mark.extended), 1.0])
def test_without_guidance_one_row_is_computed_and_the_negative_prompt_has_no_say(
    breakable: I2VGenXLEngine, guidance: float
) -> None:
    plain = rendered(breakable, brief(guidance_scale=guidance))
    rows: list[int] = []
    module(breakable, "unet.conv_norm_out").register_forward_pre_hook(
        lambda _, given: rows.append(len(given[0]))
    )

    again = rendered(breakable, brief(guidance_scale=guidance, negative_prompt="blurry"))

    assert np.array_equal(plain, again)
    assert rows == [8] * 3


def test_a_second_load_does_nothing(engine: I2VGenXLEngine) -> None:
    model = engine.model
    engine.load("cpu", lambda fraction, what: pytest.fail("loaded again"))

    assert engine.model is model


# In `make test`, tests/contracts/test_engine.py unloads an engine and loads it again.
@pytest.mark.extended
def test_what_was_unloaded_renders_only_after_loading(breakable: I2VGenXLEngine) -> None:
    breakable.unload()
    with pytest.raises(ModelLoading):
        rendered(breakable, brief())

    breakable.load("cpu", lambda fraction, what: None)
    assert len(rendered(breakable, brief())) == 8


def test_the_plan_says_whether_the_prompt_is_cut(engine: I2VGenXLEngine) -> None:
    assert engine.plan(brief(prompt="short"))["is_prompt_cut"] is False
    assert engine.plan(brief(prompt="long " * 60))["is_prompt_cut"] is True


def test_what_the_encoder_does_not_read_is_told_as_the_client_wrote_it(
    engine: I2VGenXLEngine,
) -> None:
    assert engine.plan(brief(prompt="short"))["warnings"] == ()
    prompt = f"{'long ' * 300}and the Cat Jumps"
    (warning,) = cast(tuple[str, ...], engine.plan(brief(prompt=prompt))["warnings"])
    assert warning.startswith("the end of prompt was not read")
    cut = json.loads(warning.partition(": ")[2])
    assert prompt.endswith(cut)
    assert cut.endswith("and the Cat Jumps")
