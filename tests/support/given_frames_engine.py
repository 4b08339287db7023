"""An engine that takes keyframes and a last frame, and shows each in its place."""

from collections.abc import Iterator

import numpy as np

from bench.noop import NoopEngine
from shared.engines.spec import Honours
from worker.engines.base import Frames, Image, OnStep, RenderRequest, Step


class GivenFramesEngine(NoopEngine):
    """Renders flat frames: each the mean of the newest image given for it or an earlier frame."""

    spec = NoopEngine.spec.model_copy(
        update={"name": "given", "honours": (Honours.LAST_FRAME, Honours.KEYFRAMES)}
    )

    def render(self, request: RenderRequest, on_step: OnStep) -> Iterator[Frames]:
        parameters = request.parameters
        images: dict[int, Image] = {0: request.image, **request.keyframes}
        if request.last_frame is not None:
            images[parameters.num_frames - 1] = request.last_frame
        on_step(Step(1, 1))
        shape = (1, parameters.height, parameters.width, 3)
        for frame in range(parameters.num_frames):
            newest = images[max(known for known in images if known <= frame)]
            colour = newest.reshape(-1, 3).mean(axis=0).astype(np.uint8)
            yield np.broadcast_to(colour, shape).copy()
