"""A draft is diffusers' own sampler in our loop, and the plan says that it is approximate."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DPMSolverMultistepScheduler

from shared.engines.parameters import RequestedParameters, resolve_parameters
from shared.engines.spec import Quality
from shared.settings import Settings
from tests.support.arms import Arms, asked, distance, our_model, stock_pipeline
from tests.support.checkpoints import FAITHFUL, i2vgen_scheduler, small_i2vgen_xl
from tests.support.photos import astronaut
from worker.engines.base import RenderRequest
from worker.engines.i2vgen import pipeline
from worker.engines.i2vgen.ddim import ddim_steps
from worker.engines.i2vgen.draft import draft_steps
from worker.engines.i2vgen.engine import SPEC, I2VGenXLEngine

# The library causes this warning itself, in its stock pipeline.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

BOUND = 1e-4
STEPS = SPEC.qualities[Quality.DRAFT].num_inference_steps


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_i2vgen_xl(tmp_path_factory.mktemp("faithful"), FAITHFUL)


@pytest.fixture(scope="module")
def arms(checkpoint: Path) -> Arms:
    """Return our model, and the stock pipeline with the draft's scheduler in place of its own."""
    stock = stock_pipeline(checkpoint, torch.float32)
    stock.scheduler = DPMSolverMultistepScheduler.from_config(
        stock.scheduler.config, timestep_spacing="trailing"
    )
    return Arms(our_model(checkpoint), stock)


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> I2VGenXLEngine:
    folder = small_i2vgen_xl(tmp_path_factory.mktemp("quick"))
    engine = I2VGenXLEngine(Settings(model_dir=folder, _env_file=None))
    engine.load("cpu", lambda fraction, what: None)
    return engine


@pytest.mark.parametrize(
    ("steps", "guidance"),
    [
        (5, 9.0),
        pytest.param(5, 1.0, marks=pytest.mark.extended),
        pytest.param(STEPS, 9.0, marks=pytest.mark.extended),
    ],
)
def test_a_draft_matches_the_reference_with_its_scheduler_swapped_in(
    arms: Arms, steps: int, guidance: float
) -> None:
    request = asked(
        (64, 64), guidance, quality=Quality.DRAFT, approximate=True, num_inference_steps=steps
    )

    assert distance(arms.run_ours(request), arms.run_stock(request)) <= BOUND


@pytest.mark.parametrize("other", ["leading", pytest.param("exact", marks=pytest.mark.extended)])
def test_another_sampler_than_the_drafts_does_not_go_unseen(
    arms: Arms, monkeypatch: pytest.MonkeyPatch, other: str
) -> None:
    request = asked((64, 64), 9.0, quality=Quality.DRAFT, num_inference_steps=5)
    expected = arms.run_stock(request)

    def leading(scheduler: Any, count: int) -> Any:
        steps = draft_steps(scheduler, count)
        solver: Any = DPMSolverMultistepScheduler.from_config(scheduler.config)
        solver.set_timesteps(count)
        return [
            type(each)(int(t), solver) for each, t in zip(steps, solver.timesteps, strict=True)
        ]

    monkeypatch.setattr(pipeline, "draft_steps", leading if other == "leading" else ddim_steps)

    assert distance(arms.run_ours(request), expected) > 20 * BOUND


@pytest.mark.parametrize("count", [1, 2, 3, 50, 200])
def test_any_number_of_steps_starts_from_noise_alone_and_stays_finite(count: int) -> None:
    steps = draft_steps(i2vgen_scheduler(), count)
    latents, prediction = torch.randn(
        (2, 1, 4, 2, 3, 3), generator=torch.Generator().manual_seed(1)
    )

    for step in steps:
        latents = step.advance(latents, prediction)

    assert [step.timestep for step in steps] == sorted(
        {step.timestep for step in steps}, reverse=True
    )
    assert (len(steps), steps[0].timestep) == (count, 999)
    assert bool(torch.isfinite(latents).all())


def test_a_draft_is_another_clip_in_fewer_steps_and_its_plan_says_so(
    engine: I2VGenXLEngine,
) -> None:
    draft, standard = brief(quality="draft"), brief()

    assert (draft.parameters.num_inference_steps, draft.parameters.approximate) == (20, True)
    assert (standard.parameters.num_inference_steps, standard.parameters.approximate) == (
        50,
        False,
    )
    assert engine.plan(draft)["sampler"] == "dpmsolver++ trailing"
    assert engine.plan(draft)["approximate"] is True
    assert engine.plan(standard)["sampler"] == "ddim"
    assert engine.plan(standard)["approximate"] is False
    three = [brief(quality=name, num_inference_steps=3) for name in ("draft", "standard")]
    assert not np.array_equal(*(rendered(engine, each) for each in three))


@pytest.mark.extended
def test_a_draft_repeats_itself(engine: I2VGenXLEngine) -> None:
    draft = brief(quality="draft", num_inference_steps=3)

    assert np.array_equal(rendered(engine, draft), rendered(engine, draft))


def test_high_is_the_standard_sampler_with_more_steps(engine: I2VGenXLEngine) -> None:
    high = brief(quality="high").parameters

    assert (high.num_inference_steps, high.approximate) == (80, False)
    three = [brief(quality=name, num_inference_steps=3) for name in ("high", "standard")]
    assert np.array_equal(*(rendered(engine, each) for each in three))


def brief(**fields: Any) -> RenderRequest:
    asked = RequestedParameters(
        prompt="a cat", width=128, height=128, num_frames=8, seed=1, **fields
    )
    image = astronaut()
    return RenderRequest(
        image, resolve_parameters(SPEC, asked, image_width=512, image_height=512, seed=1)
    )


def rendered(engine: I2VGenXLEngine, request: RenderRequest) -> Any:
    return np.concatenate(list(engine.render(request, lambda step: None)))
