"""The clips that are measured, the most important first."""

from dataclasses import dataclass
from typing import Final

from shared.engines.parameters import RenderParameters
from shared.engines.spec import Fit
from tests.support.photos import photo
from worker.engines.base import RenderRequest
from worker.engines.i2vgen.compiled import WarmShape
from worker.engines.i2vgen.weights import Model


@dataclass(frozen=True)
class Case:
    width: int
    height: int
    frames: int
    steps: int

    def __str__(self) -> str:
        return f"{self.width} x {self.height}, {self.frames} frames, {self.steps} steps"

    def shape(self, model: Model) -> WarmShape:
        return WarmShape.of_clip(model, self.width, self.height, self.frames)

    def request(self, number: int) -> RenderRequest:
        """Return a clip to render; each has another prompt, so that no encoding is kept."""
        return engine_request(
            number,
            width=self.width,
            height=self.height,
            frames=self.frames,
            steps=self.steps,
            guidance_scale=9.0,
        )


def engine_request(
    number: int, *, width: int, height: int, frames: int, steps: int, guidance_scale: float
) -> RenderRequest:
    """Return a clip to render; each number has another prompt, so that no encoding is kept."""
    return RenderRequest(
        photo("rocket.jpg", short_side=height),
        RenderParameters(
            prompt=f"the rocket slowly rises, take {number}",
            negative_prompt=f"blurry, take {number}",
            resolution=None,
            width=width,
            height=height,
            fit=Fit.CROP,
            num_frames=frames,
            fps=8,
            num_inference_steps=steps,
            guidance_scale=guidance_scale,
            seed=number,
        ),
    )


CASES: Final = {
    "cpu": (Case(192, 192, 8, 3),),
    # Only the first case has goals and an ablation, because time may run out.
    "cuda": (Case(512, 512, 16, 50), Case(256, 256, 16, 50), Case(1280, 704, 16, 50)),
}


def chosen(device: str, size: str | None) -> tuple[Case, ...]:
    """Return the device's cases, or the one of this size, such as `512x512`."""
    found = {f"{each.width}x{each.height}": each for each in CASES[device]}
    if size is None:
        return CASES[device]
    if size not in found:
        raise SystemExit(f"there is no size {size}; try {' or '.join(found)}")
    return (found[size],)
