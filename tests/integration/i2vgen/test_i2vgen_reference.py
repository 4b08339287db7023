"""Our own denoising loop gives the latents of diffusers' pipeline.

The stock pipeline runs as it ships, with three exceptions. It gets the same starting noise
(`latents=`). It gets the same draw from the VAE, because it takes that draw from the global
generator. Its text encoder gets back the attribute `text_model`, which transformers 5 removed and
without which its default call fails. It computes everything else by itself.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as PillowImage

from tests.support.arms import (
    STEPS,
    Arms,
    Recorder,
    asked,
    distance,
    halved,
    our_model,
    stock_pipeline,
)
from tests.support.checkpoints import FAITHFUL, small_i2vgen_xl
from worker.engines.i2vgen.conditions import Conditions, encode_prompts
from worker.engines.i2vgen.ddim import ddim_steps
from worker.engines.i2vgen.decode import decode
from worker.engines.i2vgen.denoise import Guidance
from worker.engines.i2vgen.denoiser import Denoiser

BOUND = 1e-4
# The smallest of these errors, without the image's embedding, is 5e-3.
SEEN = 20 * BOUND
SIZES = [(64, 64), (128, 64)]
GUIDANCES = [1.0, 9.0]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_i2vgen_xl(tmp_path_factory.mktemp("faithful"), FAITHFUL)


@pytest.fixture(scope="module")
def arms(checkpoint: Path) -> Arms:
    return Arms(our_model(checkpoint), stock_pipeline(checkpoint, torch.float32))


@pytest.fixture(scope="module")
def expected(arms: Arms) -> torch.Tensor:
    """Return the reference's latents of a small guided clip."""
    return arms.run_stock(asked((64, 64), 9.0))


@pytest.fixture(scope="module")
def half(checkpoint: Path) -> Arms:
    return halved(checkpoint)


@pytest.mark.parametrize(
    ("size", "guidance"),
    [
        (SIZES[0], GUIDANCES[1]),
        (SIZES[1], GUIDANCES[0]),
        pytest.param(SIZES[0], GUIDANCES[0], marks=pytest.mark.extended),
        pytest.param(SIZES[1], GUIDANCES[1], marks=pytest.mark.extended),
    ],
)
def test_latents_match_the_reference_over_eight_steps(
    arms: Arms, size: tuple[int, int], guidance: float, record_property: Callable[..., None]
) -> None:
    request = asked(size, guidance)

    error = distance(arms.run_ours(request), arms.run_stock(request))

    record_property("relative_error", error)
    assert error <= BOUND


def test_every_single_step_from_the_references_latents_matches(
    arms: Arms, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = asked((128, 64), 9.0)
    seen = Recorder(arms.stock.scheduler)
    monkeypatch.setattr(arms.stock, "scheduler", seen)
    arms.run_stock(request)

    noise, conditions = arms.conditions(request)
    steps = ddim_steps(arms.ours.scheduler, STEPS)
    denoiser = Denoiser(arms.ours.unet)
    guidance = Guidance(denoiser, request.parameters.guidance_scale)
    constants = denoiser.constants(conditions, steps)
    starts = [noise.clip, *seen.samples[:-1]]
    ends = [
        step.advance(start, guidance.predict(start, constants, index))
        for index, (start, step) in enumerate(zip(starts, steps, strict=True))
    ]

    errors = [distance(end, theirs) for end, theirs in zip(ends, seen.samples, strict=True)]
    assert max(errors) <= 1e-5


@pytest.mark.extended
@pytest.mark.parametrize("size", SIZES)
def test_half_precision_strays_no_further_than_the_references_own(
    arms: Arms, half: Arms, size: tuple[int, int]
) -> None:
    request = asked(size, 9.0)
    latents = arms.conditions(request)[1].latents
    exact = arms.run_stock(request)

    ours = half.run_ours(request, lambda conditions: replace(conditions, latents=latents))
    stocks = half.run_stock(request, latents)

    assert distance(ours, exact) <= 1.25 * distance(stocks.float(), exact)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(
            lambda given: replace(given, latents=torch.zeros_like(given.latents)), id="latents"
        ),
        pytest.param(lambda given: replace(given, fps=8), id="fps"),
        pytest.param(
            lambda given: replace(given, image=torch.zeros_like(given.image)), id="image"
        ),
        pytest.param(lambda given: replace(given, text=given.text.flip(0)), id="prompt"),
    ],
)
def test_a_dropped_condition_does_not_go_unseen(
    arms: Arms, expected: torch.Tensor, change: Callable[[Conditions], Conditions]
) -> None:
    assert distance(arms.run_ours(asked((64, 64), 9.0), change), expected) > SEEN


def test_a_dropped_temporal_convolution_does_not_go_unseen(
    arms: Arms, expected: torch.Tensor, checkpoint: Path
) -> None:
    without = replace(arms, ours=our_model(checkpoint))
    for name, module in without.ours.unet.named_modules():
        if name.endswith(".conv4"):
            torch.nn.init.zeros_(module[-1].weight)
            torch.nn.init.zeros_(module[-1].bias)

    assert distance(without.run_ours(asked((64, 64), 9.0)), expected) > SEEN


def test_the_images_latents_are_drawn_as_the_reference_draws_them(arms: Arms) -> None:
    request = asked((64, 64), 9.0)
    noise, conditions = arms.conditions(request)
    middle = PillowImage.fromarray(request.image[:, 16:80])

    with torch.inference_mode():
        pixels = arms.stock.video_processor.preprocess(middle)
        spread = arms.stock.vae.encode(pixels).latent_dist
        sample = spread.mean + spread.std * noise.image
    expected = sample * arms.stock.vae.config.scaling_factor

    assert request.image.shape == (64, 96, 3)
    torch.testing.assert_close(conditions.latents[:, :, 0], expected, rtol=1e-5, atol=1e-6)


def test_frames_match_the_reference_to_a_level(arms: Arms) -> None:
    latents = torch.randn((1, 4, 8, 8, 16), generator=torch.Generator().manual_seed(3))
    with torch.inference_mode():
        video = arms.stock.video_processor.postprocess_video(
            arms.stock.decode_latents(latents, decode_chunk_size=1), output_type="np"
        )[0]

    assert np.abs(decode(arms.ours, latents) - video * 255.0).max() <= 1.0


def test_the_prompt_is_read_from_the_last_layer_but_one(arms: Arms) -> None:
    encoder = arms.ours.text_encoder
    outputs: list[torch.Tensor] = []
    hook = encoder.encoder.layers[-2].register_forward_hook(
        lambda module, given, output: outputs.append(output)
    )

    embedded = encode_prompts(arms.ours, ["a cat blinks"])
    hook.remove()

    with torch.inference_mode():
        torch.testing.assert_close(embedded, encoder.final_layer_norm(outputs[0]))
