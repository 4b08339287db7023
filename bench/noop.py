"""An engine that renders almost nothing, so that what is measured is the queue's own time."""

from collections.abc import Iterator

import numpy as np

from shared.engines.spec import Defaults, EngineSpec, Licence, Shape, Span
from shared.settings import Settings
from worker.engines.base import Frames, OnProgress, OnStep, Plan, RenderRequest, Step


class NoopEngine:
    """Gives flat frames of the image's mean colour; for measurements only."""

    spec = EngineSpec(
        name="noop",
        title="No-op",
        description="Flat frames at once, to measure the queue.",
        revision="1",
        ai_generated=False,
        uses_prompt=False,
        uses_steps=False,
        uses_guidance=False,
        needs_gpu=False,
        shape=Shape.KEEP,
        multiple=2,
        num_frames=Span(low=1, high=32),
        defaults=Defaults(num_frames=1),
        licence=Licence(name="Apache-2.0", commercial_use="yes"),
    )

    def __init__(self, settings: Settings) -> None:
        self._is_loaded = False

    def load(self, device: str, on_progress: OnProgress) -> None:
        if not self._is_loaded:
            on_progress(1.0, "nothing to load")
        self._is_loaded = True

    def plan(self, request: RenderRequest) -> Plan:
        return {"kind": "noop"}

    def render(self, request: RenderRequest, on_step: OnStep) -> Iterator[Frames]:
        parameters = request.parameters
        colour = request.image.reshape(-1, 3).mean(axis=0).astype(np.uint8)
        shape = (parameters.num_frames, parameters.height, parameters.width, 3)
        on_step(Step(1, 1))
        yield np.broadcast_to(colour, shape).copy()

    def unload(self) -> None:
        self._is_loaded = False
