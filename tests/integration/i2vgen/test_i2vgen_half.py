"""In half precision, ours strays from float32 no further than diffusers' own half precision.

At every step both get the same latents, which the reference reached in float32. Each error is
therefore that step's own, and guidance has not amplified errors of earlier steps.
"""

from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from shared.errors import NonFiniteFrames
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
from tests.support.stock import stock_prediction
from worker.engines.i2vgen.conditions import Conditions
from worker.engines.i2vgen.ddim import ddim_steps
from worker.engines.i2vgen.denoise import Guidance
from worker.engines.i2vgen.denoiser import Denoiser
from worker.engines.i2vgen.pipeline import render_clip

pytestmark = pytest.mark.long

BOUND = 1.25
GUIDANCE = 9.0
WIDE, TALL = ((128, 64), 8), ((64, 128), 9)
SQUARES = [((64, 64), 7), ((64, 64), 10)]


@dataclass(frozen=True)
class Forced:
    """The reference's latents of a clip in float32, and both halves' predictions for them."""

    exact: list[torch.Tensor]
    ours: list[torch.Tensor]
    stocks: list[torch.Tensor]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_i2vgen_xl(tmp_path_factory.mktemp("faithful"), FAITHFUL)


@pytest.fixture(scope="module")
def exact(checkpoint: Path) -> Arms:
    return Arms(our_model(checkpoint), stock_pipeline(checkpoint, torch.float32))


@pytest.fixture(scope="module")
def half(checkpoint: Path) -> Arms:
    return halved(checkpoint)


# The test of a whole loop below checks the same bound.
@pytest.mark.extended
@pytest.mark.parametrize(("size", "seed"), [WIDE, *SQUARES, TALL])
def test_no_step_strays_further_than_the_references_own(
    exact: Arms, half: Arms, size: tuple[int, int], seed: int
) -> None:
    forced = teacher_forced(exact, half, size, seed)

    assert len(ratios(forced)) == STEPS
    assert max(ratios(forced)) <= BOUND
    assert whole_ratio(forced) <= BOUND


@pytest.mark.extended
@pytest.mark.parametrize(("size", "seed"), [TALL, WIDE, SQUARES[1]])
def test_a_whole_loop_strays_no_further_than_the_references_own(
    exact: Arms, half: Arms, size: tuple[int, int], seed: int
) -> None:
    request = asked(size, GUIDANCE, seed=seed)
    latents = exact.conditions(request)[1].latents
    true = exact.run_stock(request)

    ours = half.run_ours(request, lambda conditions: replace(conditions, latents=latents))
    stocks = half.run_stock(request, latents)

    assert distance(ours, true) <= BOUND * distance(stocks.float(), true)


@pytest.mark.extended
def test_weights_of_fewer_bits_do_not_go_unseen(exact: Arms, half: Arms) -> None:
    coarse = deepcopy(half.ours.unet)
    for weight in coarse.parameters():
        weight.copy_(weight.to(torch.float8_e4m3fn).to(weight.dtype))
    broken = replace(half, ours=replace(half.ours, unet=coarse))

    forced = teacher_forced(exact, broken, (64, 64), 7)

    assert max(ratios(forced)) > BOUND
    assert whole_ratio(forced) > BOUND


def test_float16_that_overflows_fails_and_gives_no_frames(checkpoint: Path) -> None:
    model = halved(checkpoint, torch.float16).ours
    model.unet.conv_in.weight.mul_(1e5)

    with pytest.raises(NonFiniteFrames, match="float16 overflowing"):
        list(render_clip(model, asked((64, 64), GUIDANCE), lambda step: None))


def test_float16_that_does_not_overflow_renders(checkpoint: Path) -> None:
    model = halved(checkpoint, torch.float16).ours

    frames = list(render_clip(model, asked((64, 64), GUIDANCE), lambda step: None))

    assert np.concatenate(frames).shape == (8, 64, 64, 3)


def teacher_forced(exact: Arms, half: Arms, size: tuple[int, int], seed: int) -> Forced:
    request = asked(size, GUIDANCE, seed=seed)
    seen, scheduler = Recorder(exact.stock.scheduler), exact.stock.scheduler
    exact.stock.scheduler = seen
    try:
        exact.run_stock(request)
    finally:
        exact.stock.scheduler = scheduler
    noise, conditions = exact.conditions(request)
    steps = ddim_steps(exact.ours.scheduler, STEPS)
    denoiser = Denoiser(half.ours.unet)
    guidance, constants = Guidance(denoiser, GUIDANCE), denoiser.constants(cast(conditions), steps)
    starts = [noise.clip, *seen.samples[:-1]]
    return Forced(
        exact=[
            stock_prediction(exact.stock.unet, conditions, start, step.timestep, GUIDANCE)
            for start, step in zip(starts, steps, strict=True)
        ],
        ours=[guidance.predict(start, constants, index) for index, start in enumerate(starts)],
        stocks=[
            stock_prediction(half.stock.unet, cast(conditions), start, step.timestep, GUIDANCE)
            for start, step in zip(starts, steps, strict=True)
        ],
    )


def ratios(forced: Forced) -> list[float]:
    """Return the error of ours over the error of the stock pipeline, for each step."""
    steps = zip(forced.exact, forced.ours, forced.stocks, strict=True)
    return [distance(ours, true) / distance(stock, true) for true, ours, stock in steps]


def whole_ratio(forced: Forced) -> float:
    """Return the same ratio over all steps together."""
    (ratio,) = ratios(
        Forced(*([torch.cat(each)] for each in (forced.exact, forced.ours, forced.stocks)))
    )
    return ratio


def cast(conditions: Conditions) -> Conditions:
    return replace(
        conditions,
        text=conditions.text.to(torch.bfloat16),
        image=conditions.image.to(torch.bfloat16),
    )
