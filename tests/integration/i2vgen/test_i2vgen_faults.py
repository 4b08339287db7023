"""If memory, numbers or the device fail, the engine uses smaller pieces or gives a clear error."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from shared.engines.parameters import RequestedParameters
from shared.errors import DevicePoisoned, MissingWeights, NonFiniteFrames, OutOfMemory
from tests.support.checkpoints import small_i2vgen_xl
from tests.support.photos import astronaut
from tests.support.small_engine import brief, ignore, loaded, module, rendered, settled
from worker.engines.i2vgen.engine import I2VGenXLEngine


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_i2vgen_xl(tmp_path_factory.mktemp("quick"))


@pytest.fixture
def breakable(checkpoint: Path) -> I2VGenXLEngine:
    """Return a new engine, whose parts a test may break."""
    return loaded(checkpoint)


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
    "part",
    [
        "unet.conv_norm_out",
        pytest.param("vae.encoder.conv_in", marks=pytest.mark.extended),
        pytest.param("vae.decoder.conv_in", marks=pytest.mark.extended),
    ],
)
def test_a_clip_too_big_for_the_card_says_which_would_fit(
    breakable: I2VGenXLEngine, part: str
) -> None:
    refuse(breakable, part, more_than=0)
    request = settled(
        astronaut(), RequestedParameters(resolution="512p", num_inference_steps=2, seed=1)
    )

    with pytest.raises(OutOfMemory, match=r"512 x 512 with 16 frames .* 256p or num_frames 8"):
        rendered(breakable, request)


def test_after_running_out_of_memory_the_engine_still_renders(breakable: I2VGenXLEngine) -> None:
    whole = rendered(breakable, brief())
    lift = refuse(breakable, "unet.conv_norm_out", more_than=0)
    with pytest.raises(OutOfMemory):
        rendered(breakable, brief())
    lift()

    assert np.array_equal(whole, rendered(breakable, brief()))


@pytest.mark.parametrize(
    ("value", "part"),
    [
        (float("nan"), "unet.conv_out"),
        (float("inf"), "vae.decoder.conv_out"),
        pytest.param(float("inf"), "unet.conv_out", marks=pytest.mark.extended),
        pytest.param(float("nan"), "vae.decoder.conv_out", marks=pytest.mark.extended),
    ],
)
def test_numbers_that_are_not_finite_fail_with_what_to_try(
    breakable: I2VGenXLEngine, part: str, value: float
) -> None:
    spoil(breakable, part, value)

    with pytest.raises(NonFiniteFrames, match="another seed or a lower guidance_scale"):
        rendered(breakable, brief())


def test_latents_that_are_not_finite_are_not_decoded(breakable: I2VGenXLEngine) -> None:
    spoil(breakable, "unet.conv_out", float("nan"))
    fail(breakable, "vae.decoder.conv_in", AssertionError("decoded"))

    with pytest.raises(NonFiniteFrames):
        rendered(breakable, brief())


@pytest.mark.parametrize(
    ("part", "weight"),
    [
        ("text_encoder", "text_encoder.final_layer_norm"),
        ("image_encoder", "image_encoder.visual_projection"),
        ("vae", "vae.decoder.conv_out"),
        ("unet", "unet.conv_out"),
    ],
)
def test_weights_that_are_not_numbers_are_named(
    breakable: I2VGenXLEngine, part: str, weight: str
) -> None:
    module(breakable, weight).weight.fill_(float("nan"))

    with pytest.raises(MissingWeights, match=f"{part} has weights that are not numbers"):
        rendered(breakable, brief())


def test_broken_weights_cost_one_step_and_not_the_clip(breakable: I2VGenXLEngine) -> None:
    module(breakable, "unet.conv_out").weight.fill_(float("nan"))
    passes: list[object] = []
    module(breakable, "unet.conv_out").register_forward_hook(lambda *_: passes.append(None))

    with pytest.raises(MissingWeights):
        rendered(breakable, brief(num_inference_steps=8))
    assert len(passes) == 1


def test_whether_a_flat_clip_is_right_is_left_to_the_worker(breakable: I2VGenXLEngine) -> None:
    """The worker has the only rule for flat clips, and it checks the finished clip."""
    module(breakable, "vae.decoder.conv_out").weight.zero_()

    assert len(rendered(breakable, brief())) == 8


@pytest.mark.parametrize(
    "words",
    [
        "CUDA error: an illegal memory access was encountered",
        pytest.param("cuDNN error: EXECUTION_FAILED", marks=pytest.mark.extended),
    ],
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
    [
        "mat1 and mat2 shapes cannot be multiplied",
        pytest.param("tensors found on two devices, cuda:0 and cpu!", marks=pytest.mark.extended),
    ],
)
def test_a_mistake_of_ours_is_not_blamed_on_the_device(
    breakable: I2VGenXLEngine, words: str
) -> None:
    fail(breakable, "unet.conv_out", RuntimeError(words))

    with pytest.raises(RuntimeError, match=words):
        rendered(breakable, brief())


def refuse(engine: I2VGenXLEngine, path: str, *, more_than: int) -> Callable[[], None]:
    """Make a part run out of memory above a number of rows; return a function that ends this."""

    def check(_: Any, given: tuple[torch.Tensor, ...]) -> None:
        if given[0].shape[0] > more_than:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    return module(engine, path).register_forward_pre_hook(check).remove


def fail(engine: I2VGenXLEngine, path: str, error: Exception) -> None:
    def throw(*_: Any) -> None:
        raise error

    module(engine, path).register_forward_pre_hook(throw)


def spoil(engine: I2VGenXLEngine, part: str, value: float) -> None:
    """Make a part return numbers that are not finite, although its weights are."""
    module(engine, part).register_forward_hook(lambda part, inputs, output: output * value)
