"""DDIM as two numbers a step equals DDIM as diffusers computes it."""

import pytest
import torch
from diffusers import DDIMScheduler

from shared.errors import MissingWeights
from tests.support.checkpoints import i2vgen_scheduler
from worker.engines.i2vgen.ddim import ddim_steps


@pytest.mark.parametrize("count", [1, 2, 8, 50, 60, 80, 200])
def test_every_step_equals_the_reference(count: int) -> None:
    reference = i2vgen_scheduler()
    reference.set_timesteps(count)
    generator = torch.Generator().manual_seed(count)
    sample, prediction = torch.randn((2, 64), generator=generator)
    steps = ddim_steps(i2vgen_scheduler(), count)

    assert [step.timestep for step in steps] == reference.timesteps.tolist()
    for step in steps:
        expected = reference.step(prediction, step.timestep, sample).prev_sample
        torch.testing.assert_close(
            step.keep * sample + step.follow * prediction, expected, rtol=1e-5, atol=1e-5
        )


@pytest.mark.parametrize("changed", [{"prediction_type": "epsilon"}, {"clip_sample": True}])
def test_another_models_scheduler_is_refused(changed: dict[str, object]) -> None:
    scheduler = DDIMScheduler.from_config({**i2vgen_scheduler().config, **changed})

    with pytest.raises(MissingWeights, match="predict v and not clip"):
        ddim_steps(scheduler, 8)
