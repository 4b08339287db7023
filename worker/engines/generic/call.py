"""How a pipeline's call takes the values of a job, read from its signature."""

import inspect
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from shared.errors import MissingWeights

FRAMES: Final = ("num_frames", "frames")
GUIDANCE: Final = ("guidance_scale", "max_guidance_scale")
FPS: Final = ("fps", "frame_rate", "target_fps")
GIVEN: Final = frozenset(
    {
        *("image", "prompt", "negative_prompt", "width", "height", *FRAMES, *GUIDANCE, *FPS),
        *("num_inference_steps", "generator", "output_type", "callback_on_step_end"),
    }
)

# Measured on the pinned version: these give fewer frames than they are asked for.
FEWER_FRAMES: Final = frozenset({"HeliosPipeline", "ChronoEditPipeline"})
# For a class that renders in sections: the argument with the number of frames of one section.
SECTION_FRAMES: Final = {"HunyuanVideoFramepackPipeline": 33}
# For a class that takes a last image: how many frames one latent stands for. Other classes take a
# last image only in some ways of calling them, or show it in the frames that are cut.
TO_A_LAST_FRAME: Final = {"WanImageToVideoPipeline": 4}


@dataclass(frozen=True)
class Call:
    """The names under which a class takes a job's values, and its own defaults for them.

    `guidance` and `fps` are None if it takes none; `takes` are all names that it knows.
    """

    kind: str
    frames: str
    guidance: str | None
    fps: str | None
    takes: frozenset[str]
    defaults: dict[str, Any]

    def sections(self, num_frames: int) -> int:
        """Return how often the class runs all steps for a clip."""
        return -(-num_frames // SECTION_FRAMES.get(self.kind, num_frames))


def read_call(kind: str, signature: inspect.Signature) -> Call:
    """Return how to call a class.

    Raises:
        MissingWeights: the class cannot render a job; the message says why.
    """
    parameters = {name: each for name, each in signature.parameters.items() if name != "self"}
    takes = frozenset(parameters)
    if lacking := _lacking(takes):
        raise _refused(kind, lacking)
    if needed := sorted(
        name
        for name, each in parameters.items()
        if each.default is inspect.Parameter.empty
        and each.kind not in (each.VAR_KEYWORD, each.VAR_POSITIONAL)
        and name not in GIVEN
    ):
        raise _refused(kind, f"also needs {' and '.join(needed)}, which no job has")
    frames = _first(FRAMES, takes)
    if frames is None:
        raise _refused(kind, "makes single images, because it takes no number of frames")
    if kind in FEWER_FRAMES:
        raise _refused(kind, "gives fewer frames than it is asked for")
    return Call(
        kind=kind,
        frames=frames,
        guidance=_first(GUIDANCE, takes),
        fps=_first(FPS, takes),
        takes=takes,
        defaults={name: each.default for name, each in parameters.items()},
    )


def _lacking(takes: frozenset[str]) -> str | None:
    reasons = {
        "image": "takes no image: if its parts serve a class that does, name that one as"
        " _class_name in model_index.json",
        "callback_on_step_end": "does not report its steps (it takes no callback_on_step_end), so"
        " a job could not be stopped",
        "generator": "takes no generator, so a seed would not decide the clip",
        "num_inference_steps": "takes no num_inference_steps",
        "width": "takes no width and height",
    }
    return next((reason for name, reason in reasons.items() if name not in takes), None)


def _first(names: Iterable[str], takes: frozenset[str]) -> str | None:
    return next((name for name in names if name in takes), None)


def _refused(kind: str, why: str) -> MissingWeights:
    return MissingWeights(f"{kind} cannot be served as diffusers:/folder: it {why}")
