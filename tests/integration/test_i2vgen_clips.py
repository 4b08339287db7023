"""Clips from a small random checkpoint: whole, repeatable, cancelable, honest about failure."""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from shared.catalogue import Asked, Preset, settle
from shared.errors import (
    BlankFrames,
    DevicePoisoned,
    LeaseLost,
    ModelLoading,
    NonFiniteFrames,
    OutOfMemory,
)
from shared.lifecycle import Stage
from shared.settings import Settings
from tests.checkpoints import small_i2vgen_xl
from tests.photos import Photo, astronaut, coffee, rocket
from worker.engines.base import Frames, OnStep, RenderRequest, Step
from worker.engines.i2vgen import clip, conditions
from worker.engines.i2vgen_xl import SPEC, I2VGenXLEngine

PICTURES: dict[str, Callable[[], Photo]] = {
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


@pytest.fixture
def breakable(checkpoint: Path) -> I2VGenXLEngine:
    """Return an engine of the test's own, whose parts it may break."""
    return loaded(checkpoint)


# The landscape, 24 frames at 768p in 80 steps, is rendered through the whole service instead:
# tests/e2e/test_service.py.
@pytest.mark.parametrize("preset", SPEC.presets[::2], ids=lambda preset: preset.name)
def test_the_missions_cases_render_by_their_own_figures(
    engine: I2VGenXLEngine, preset: Preset, record_property: Callable[..., None]
) -> None:
    picture = PICTURES[preset.name]()
    asked = Asked(prompt="a slow, gentle motion", **preset.model_dump(exclude={"name"}))
    request = settled(picture, asked)
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


def test_the_seed_reaches_the_pictures_own_latents(
    engine: I2VGenXLEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = conditions.draw_noise
    first = rendered(engine, brief(seed=5))

    def same_start(seed: int, **sizes: int) -> Any:
        return replace(drawn(seed, **sizes), clip=drawn(5, **sizes).clip)

    monkeypatch.setattr(clip, "draw_noise", same_start)

    assert not np.array_equal(first, rendered(engine, brief(seed=6)))


@pytest.mark.parametrize(
    "changed",
    [
        {"prompt": "something else entirely"},
        {"negative_prompt": "blurry"},
        {"fps": 24},
        {"guidance_scale": 3.0},
        {"num_inference_steps": 4},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_every_parameter_changes_the_frames(
    engine: I2VGenXLEngine, changed: dict[str, Any]
) -> None:
    assert not np.array_equal(rendered(engine, brief()), rendered(engine, brief(**changed)))


def test_the_picture_changes_the_frames(engine: I2VGenXLEngine) -> None:
    other = replace(brief(), image=astronaut()[::-1].copy())

    assert not np.array_equal(rendered(engine, brief()), rendered(engine, other))


def test_a_portrait_padded_is_not_a_portrait_cropped(engine: I2VGenXLEngine) -> None:
    cropped = settled(rocket(), Asked(width=256, height=256, num_frames=8, seed=1))
    padded = settled(rocket(), Asked(width=256, height=256, num_frames=8, seed=1, fit="pad"))

    assert not np.array_equal(rendered(engine, quick(cropped)), rendered(engine, quick(padded)))


def test_sides_that_halve_to_an_odd_number_come_back_as_they_went(engine: I2VGenXLEngine) -> None:
    request = quick(settled(coffee(), Asked(width=704, height=320, num_frames=8)))

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


@pytest.mark.parametrize("stage", [Stage.ENCODING_INPUTS, Stage.DENOISING, Stage.DECODING])
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


@pytest.mark.parametrize("guidance", [0.0, 1.0])
def test_without_guidance_one_row_is_computed_and_the_negative_prompt_has_no_say(
    breakable: I2VGenXLEngine, guidance: float
) -> None:
    plain = rendered(breakable, brief(guidance_scale=guidance))
    refuse(breakable, "unet.conv_norm_out", more_than=8)

    again = rendered(breakable, brief(guidance_scale=guidance, negative_prompt="blurry"))

    assert np.array_equal(plain, again)


def test_guidance_that_does_not_fit_is_split_with_the_same_frames(
    breakable: I2VGenXLEngine,
) -> None:
    whole = rendered(breakable, brief())
    refuse(breakable, "unet.conv_norm_out", more_than=8)

    split = rendered(breakable, brief())

    assert np.abs(whole.astype(np.int16) - split).max() <= 1


def test_decoding_that_does_not_fit_goes_one_frame_at_a_time(breakable: I2VGenXLEngine) -> None:
    whole = rendered(breakable, brief())
    refuse(breakable, "vae.decoder.conv_in", more_than=1)

    chunks = list(breakable.render(brief(), ignore))

    assert [len(chunk) for chunk in chunks] == [1] * 8
    assert np.abs(whole.astype(np.int16) - np.concatenate(chunks)).max() <= 1


@pytest.mark.parametrize(
    "part", ["vae.encoder.conv_in", "unet.conv_norm_out", "vae.decoder.conv_in"]
)
def test_a_clip_too_big_for_the_card_says_which_would_fit(
    breakable: I2VGenXLEngine, part: str
) -> None:
    refuse(breakable, part, more_than=0)
    request = settled(astronaut(), Asked(resolution="512p", num_inference_steps=2, seed=1))

    with pytest.raises(OutOfMemory, match=r"512 x 512 with 16 frames .* 256p or num_frames 8"):
        rendered(breakable, request)


def test_after_running_out_of_memory_the_engine_still_renders(breakable: I2VGenXLEngine) -> None:
    whole = rendered(breakable, brief())
    lift = refuse(breakable, "unet.conv_norm_out", more_than=0)
    with pytest.raises(OutOfMemory):
        rendered(breakable, brief())
    lift()

    assert np.array_equal(whole, rendered(breakable, brief()))


@pytest.mark.parametrize("part", ["unet.conv_out", "vae.decoder.conv_out"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_are_not_finite_fail_with_what_to_try(
    breakable: I2VGenXLEngine, part: str, value: float
) -> None:
    module(breakable, part).bias.fill_(value)

    with pytest.raises(NonFiniteFrames, match="another seed or a lower guidance_scale"):
        rendered(breakable, brief())


def test_latents_that_are_not_finite_are_not_decoded(breakable: I2VGenXLEngine) -> None:
    module(breakable, "unet.conv_out").bias.fill_(float("nan"))
    fail(breakable, "vae.decoder.conv_in", AssertionError("decoded"))

    with pytest.raises(NonFiniteFrames):
        rendered(breakable, brief())


def test_one_flat_colour_from_a_real_picture_is_a_failure(breakable: I2VGenXLEngine) -> None:
    module(breakable, "vae.decoder.conv_out").weight.zero_()

    with pytest.raises(BlankFrames, match="one flat colour"):
        rendered(breakable, brief())


def test_one_flat_colour_from_a_flat_picture_is_what_was_asked(breakable: I2VGenXLEngine) -> None:
    module(breakable, "vae.decoder.conv_out").weight.zero_()
    flat = replace(brief(), image=np.full((256, 256, 3), 90, dtype=np.uint8))

    assert len(rendered(breakable, flat)) == 8


@pytest.mark.parametrize(
    "words",
    ["CUDA error: an illegal memory access was encountered", "cuDNN error: EXECUTION_FAILED"],
)
def test_a_failing_device_ends_the_process_and_not_the_job(
    breakable: I2VGenXLEngine, words: str
) -> None:
    fail(breakable, "unet.conv_out", RuntimeError(words))

    with pytest.raises(DevicePoisoned) as caught:
        rendered(breakable, brief())
    assert caught.value.retryable


@pytest.mark.parametrize(
    "words",
    ["mat1 and mat2 shapes cannot be multiplied", "tensors found on two devices, cuda:0 and cpu!"],
)
def test_a_mistake_of_ours_is_not_blamed_on_the_device(
    breakable: I2VGenXLEngine, words: str
) -> None:
    fail(breakable, "unet.conv_out", RuntimeError(words))

    with pytest.raises(RuntimeError, match=words):
        rendered(breakable, brief())


def test_a_second_load_does_nothing(engine: I2VGenXLEngine) -> None:
    model = engine.model
    engine.load("cpu", lambda fraction, what: pytest.fail("loaded again"))

    assert engine.model is model


def test_what_was_unloaded_renders_only_after_loading(breakable: I2VGenXLEngine) -> None:
    breakable.unload()
    with pytest.raises(ModelLoading):
        rendered(breakable, brief())

    breakable.load("cpu", lambda fraction, what: None)
    assert len(rendered(breakable, brief())) == 8


def test_the_plan_says_whether_the_prompt_is_cut(engine: I2VGenXLEngine) -> None:
    assert engine.plan(brief(prompt="short"))["is_prompt_cut"] is False
    assert engine.plan(brief(prompt="long " * 60))["is_prompt_cut"] is True


def loaded(checkpoint: Path) -> I2VGenXLEngine:
    engine = I2VGenXLEngine(Settings(model_dir=checkpoint, _env_file=None))
    engine.load("cpu", lambda fraction, what: None)
    return engine


def brief(**changed: Any) -> RenderRequest:
    """Return a request that renders in a tenth of a second."""
    return quick(settled(astronaut(), Asked(resolution="256p", num_frames=8, seed=5)), **changed)


def quick(request: RenderRequest, **changed: Any) -> RenderRequest:
    parameters = request.parameters.model_copy(
        update={"prompt": "a hand waves", "num_inference_steps": 3, **changed}
    )
    return replace(request, parameters=parameters)


def settled(picture: Photo, asked: Asked) -> RenderRequest:
    parameters = settle(
        SPEC, asked, image_width=picture.shape[1], image_height=picture.shape[0], seed=11
    )
    return RenderRequest(picture, parameters)


def rendered(
    engine: I2VGenXLEngine, request: RenderRequest, on_step: OnStep | None = None
) -> Frames:
    return np.concatenate(list(engine.render(request, on_step or ignore)))


def ignore(step: Step) -> None:
    """Report nothing."""


def module(engine: I2VGenXLEngine, path: str) -> Any:
    """Return a part of the loaded model by its dotted name, such as `unet.conv_out`."""
    part, _, name = path.partition(".")
    return getattr(engine.model, part).get_submodule(name)


def refuse(engine: I2VGenXLEngine, path: str, *, more_than: int) -> Callable[[], None]:
    """Run out of memory in a part that is given more rows; return what lifts it again."""

    def check(_: Any, given: tuple[torch.Tensor, ...]) -> None:
        if given[0].shape[0] > more_than:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    return module(engine, path).register_forward_pre_hook(check).remove


def fail(engine: I2VGenXLEngine, path: str, error: Exception) -> None:
    def throw(*_: Any) -> None:
        raise error

    module(engine, path).register_forward_pre_hook(throw)
