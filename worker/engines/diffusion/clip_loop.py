"""One clip's latents by a diffusers pipeline: steps are reported, and it can stop between two."""

from collections.abc import Callable, Mapping
from typing import Any

import torch

from shared.errors import NonFiniteFrames
from shared.lifecycle import Stage
from worker.engines.base import OnStep, Step
from worker.engines.diffusion.faults import NOT_FINITE
from worker.engines.diffusion.in_flight import InFlight, event_recorder
from worker.engines.diffusion.preview import LatentMap, OneFrame, Previews

Arguments = Mapping[str, Any]


class StepCounter:
    """The callback that a pipeline calls after each step.

    It counts by itself, because a pipeline that renders in sections begins each with 0 again. An
    exception of `on_step` passes through the pipeline, which can be called again afterwards.
    """

    def __init__(
        self, total: int, device: torch.device, on_step: OnStep, previews: Previews | None
    ) -> None:
        def report(done: int) -> None:
            preview = None if previews is None else previews.of(done)
            on_step(Step(done, total, Stage.DENOISING, preview))

        self._previews = previews
        self._in_flight = InFlight(event_recorder(device), report)
        self._count = 0

    def __call__(
        self, pipeline: Any, index: int, when: Any, tensors: dict[str, Any]
    ) -> dict[str, Any]:
        self._count += 1
        # Broken weights show at once, so the clip's other steps are not computed.
        if self._count == 1:
            check_finite(tensors["latents"])
        if self._previews is not None:
            self._previews.note(self._count, tensors["latents"])
        self._in_flight.launched(self._count)
        return tensors

    def drain(self) -> None:
        self._in_flight.drain()


def latents_of(
    pipeline: Callable[..., Any],
    arguments: Arguments,
    on_step: OnStep,
    *,
    steps: int,
    device: torch.device,
    latent_map: LatentMap,
    one_frame: OneFrame,
) -> torch.Tensor:
    """Return the clip's latents, in the pipeline's own form.

    Args:
        latent_map, one_frame: the parts that previews are made with
            (`worker.engines.diffusion.preview`).

    Raises:
        NonFiniteFrames: they are not finite numbers, after the first step or at the end.
    """
    previews = Previews(latent_map, steps=steps, one_frame=one_frame)
    counter = StepCounter(steps, device, on_step, previews)
    latents: torch.Tensor = pipeline(
        **arguments,
        num_inference_steps=steps,
        callback_on_step_end=counter,
        output_type="latent",
    ).frames
    counter.drain()
    check_finite(latents)
    return latents


def check_finite(latents: torch.Tensor) -> None:
    if not bool(torch.isfinite(latents).all()):
        raise NonFiniteFrames(NOT_FINITE)


def seeded(seed: int) -> torch.Generator:
    """Return the generator of a clip's noise, on the CPU, so that every card gets the same."""
    return torch.Generator("cpu").manual_seed(seed)


def whole_latents(asked: int, frames_per_latent: int) -> int:
    """Return the next number of frames that a model makes: the first, and whole latents."""
    return 1 + -(-(asked - 1) // frames_per_latent) * frames_per_latent
