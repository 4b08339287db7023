"""One clip from its request to its frames, by a class that is known only by its signature."""

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
from PIL import Image as PillowImage

from shared.engines.spec import Fit
from shared.errors import NonFiniteFrames, RenderFailed
from shared.lifecycle import Stage
from worker.engines.base import Frames, OnStep, RenderRequest, Step
from worker.engines.diffusion.clip_loop import StepCounter, seeded
from worker.engines.diffusion.faults import NOT_FINITE
from worker.engines.framing import frame_image
from worker.engines.generic.model import Model

CHUNK: Final = 8


def render_clip(model: Model, request: RenderRequest, on_step: OnStep) -> Iterator[Frames]:
    """Yield the clip's frames, a few at a time; the class has decoded all of them at once.

    Raises:
        NonFiniteFrames: the model produced NaN or infinity.
        RenderFailed: the class does not take these values, or gave too few frames.
    """
    asked, call = request.parameters, model.folder.call
    levels = _call(model, request, on_step)
    total = asked.num_frames
    if len(levels) < total:
        raise RenderFailed(
            f"{call.kind} gave {len(levels)} frames, but {total} were asked for; it cannot be"
            " served as diffusers:/folder"
        )
    if not np.isfinite(levels).all():
        raise NonFiniteFrames(NOT_FINITE)
    for first in range(0, total, CHUNK):
        chunk = levels[first : min(first + CHUNK, total)]
        frames = _sized((chunk * 255).round().clip(0, 255).astype(np.uint8), request)
        on_step(Step(first + len(frames), total, Stage.DECODING))
        yield frames


def arguments_of(model: Model, request: RenderRequest) -> dict[str, Any]:
    """Return the values of a job under the class's names for them."""
    asked, call = request.parameters, model.folder.call
    width, height = model.fixed_size or (asked.width, asked.height)
    frame = frame_image(request.image, width=width, height=height, fit=asked.fit)
    given: dict[str, Any] = {
        "image": PillowImage.fromarray(frame),
        "prompt": asked.prompt,
        "negative_prompt": asked.negative_prompt,
        "width": width,
        "height": height,
        call.frames: model.frames_rendered(asked.num_frames),
        "num_inference_steps": asked.num_inference_steps,
        "generator": seeded(asked.seed),
        "output_type": "np",
    }
    if call.guidance is not None:
        given[call.guidance] = asked.guidance_scale
    if call.fps is not None:
        given[call.fps] = asked.fps
    return {name: value for name, value in given.items() if name in call.takes}


def _call(model: Model, request: RenderRequest, on_step: OnStep) -> Frames:
    """Return levels 0 to 1, (frames, height, width, 3)."""
    asked, call = request.parameters, model.folder.call
    sections = call.sections(model.frames_rendered(asked.num_frames))
    steps = asked.num_inference_steps * sections
    counter = StepCounter(steps, model.device, on_step, previews=None)
    try:
        made = model.pipeline(**arguments_of(model, request), callback_on_step_end=counter)
    except (ValueError, TypeError, NotImplementedError) as error:
        words = " ".join(str(error).split())[:300]
        raise RenderFailed(f"{call.kind} does not take these values: {words}") from error
    counter.drain()
    levels: Frames = np.asarray(made.frames[0])
    return levels


def _sized(frames: Frames, request: RenderRequest) -> Frames:
    """Return the frames in the size asked for, whatever size the class has made."""
    size = {"width": request.parameters.width, "height": request.parameters.height}
    if frames.shape[1:3] == (size["height"], size["width"]):
        return np.ascontiguousarray(frames)
    return np.stack([frame_image(each, **size, fit=Fit.CROP) for each in frames])
