"""The signature of a diffusers class says how to call it."""

import inspect
from typing import Any

import pytest

from shared.errors import MissingWeights
from worker.engines.generic.call import Call, read_call


def call_of(function: Any, kind: str = "SomePipeline") -> Call:
    return read_call(kind, inspect.signature(function))


def test_other_names_of_a_value_are_found() -> None:
    def call(
        self: Any,
        image: Any,
        width: int,
        height: int,
        generator: Any = None,
        num_inference_steps: int = 30,
        frames: int = 81,
        max_guidance_scale: float = 3.0,
        frame_rate: int = 25,
        callback_on_step_end: Any = None,
        **others: Any,
    ) -> None: ...

    found = call_of(call)
    assert (found.frames, found.guidance, found.fps) == (
        "frames",
        "max_guidance_scale",
        "frame_rate",
    )
    assert (found.defaults["frames"], found.defaults["frame_rate"]) == (81, 25)


def test_what_no_job_has_refuses_the_class() -> None:
    def call(
        self: Any,
        image: Any,
        pose_video: Any,
        width: int = 1,
        height: int = 1,
        num_frames: int = 1,
        num_inference_steps: int = 1,
        generator: Any = None,
        callback_on_step_end: Any = None,
        face: Any = None,
    ) -> None: ...

    with pytest.raises(MissingWeights, match="also needs pose_video, which no job has"):
        call_of(call)


@pytest.mark.parametrize("num_frames", [1, 33, 34, 97])
def test_a_class_that_renders_in_sections_goes_through_all_steps_in_each(num_frames: int) -> None:
    def call(
        self: Any,
        image: Any,
        width: int = 1,
        height: int = 1,
        num_frames: int = 1,
        num_inference_steps: int = 1,
        generator: Any = None,
        callback_on_step_end: Any = None,
    ) -> None: ...

    framepack = call_of(call, "HunyuanVideoFramepackPipeline")
    assert framepack.sections(num_frames) == {1: 1, 33: 1, 34: 2, 97: 3}[num_frames]
    assert call_of(call).sections(num_frames) == 1
