"""One clip from its request to its frames, by a class that is known only by its signature."""

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
from PIL import Image as PillowImage

from shared.engines.parameters import RenderParameters
from shared.engines.spec import Fit
from shared.errors import NonFiniteFrames, RenderFailed
from worker.engines.base import Frames, Image, OnStep, RenderRequest
from worker.engines.diffusion.clip_loop import StepCounter, seeded
from worker.engines.diffusion.faults import NOT_FINITE
from worker.engines.diffusion.levels import told_as_decoded
from worker.engines.framing import frame_image, framed
from worker.engines.generic.model import Model
from worker.engines.generic.preview import previews_of

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
    chunks = (_bytes(levels[first : first + CHUNK], request) for first in range(0, total, CHUNK))
    yield from told_as_decoded(chunks, total, on_step)


def arguments_of(model: Model, request: RenderRequest) -> dict[str, Any]:
    """Return the values of a job under the class's names for them."""
    asked, call = request.parameters, model.folder.call
    frame = model_frame(model, request.image, asked)
    height, width, _ = frame.shape
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
    if request.last_frame is not None:
        last = model_frame(model, request.last_frame, asked)
        given["last_image"] = PillowImage.fromarray(last)
    return {name: value for name, value in given.items() if name in call.takes}


def model_frame(model: Model, image: Image, asked: RenderParameters) -> Image:
    """Return the image in the size that the class renders."""
    width, height = model.fixed_size or (asked.width, asked.height)
    return frame_image(image, width=width, height=height, fit=asked.fit)


def _call(model: Model, request: RenderRequest, on_step: OnStep) -> Frames:
    """Return levels 0 to 1, (frames, height, width, 3)."""
    asked, call = request.parameters, model.folder.call
    sections = call.sections(model.frames_rendered(asked.num_frames))
    steps = asked.num_inference_steps * sections
    previews = previews_of(model, model_frame(model, request.image, asked), steps=steps)
    counter = StepCounter(steps, model.device, on_step, previews)
    try:
        made = model.pipeline(**arguments_of(model, request), callback_on_step_end=counter)
    except (ValueError, TypeError, NotImplementedError) as error:
        words = " ".join(str(error).split())[:300]
        raise RenderFailed(f"{call.kind} does not take these values: {words}") from error
    counter.drain()
    levels: Frames = np.asarray(made.frames[0])
    return levels


def _bytes(levels: Frames, request: RenderRequest) -> Frames:
    """Return levels 0 to 1 as frames of the size asked for, whatever size the class has made."""
    asked = request.parameters
    frames = (levels * 255).round().clip(0, 255).astype(np.uint8)
    if frames.shape[1:3] == (asked.height, asked.width):
        return np.ascontiguousarray(frames)
    cropped = asked.model_copy(update={"fit": Fit.CROP})
    return np.stack([framed(each, cropped) for each in frames])
