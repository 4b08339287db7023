"""The spec of an engine that we do not know, from its folder and its class."""

from collections.abc import Mapping
from typing import Any, Final

from shared.engines.spec import Defaults, EngineSpec, Honours, Licence, Resolution, Shape, Span
from worker.engines.generic.folder import Folder
from worker.engines.generic.footprint import footprint_of

LEAST_FRAMES: Final = 5
MOST_FRAMES: Final = 257
USUAL_FPS: Final = 16
# Text encoders that learned more than English.
MANY_LANGUAGES: Final = ("UMT5", "Qwen", "Gemma", "Llama", "ChatGLM")


def spec_of(name: str, folder: Folder | None) -> EngineSpec:
    """Return the spec of the entry `name`; only known parts if its folder cannot be served."""
    return EngineSpec(
        name=name,
        title=name if folder is None else f"{name} ({folder.call.kind})",
        description="An image-to-video pipeline of diffusers, from a folder of this installation.",
        revision="local",
        ai_generated=True,
        needs_gpu=True,
        shape=Shape.BUCKETS,
        multiple=32,
        max_side=1408,
        licence=Licence(
            name="the folder's own",
            commercial_use="ask",
            note="Stillreel does not know these weights: read the licence they came with.",
        ),
        **({"uses_prompt": True} if folder is None else _of_class(folder)),
    )


def _of_class(folder: Folder) -> Mapping[str, Any]:
    call, step = folder.call, folder.frames_to_a_last
    footprint = footprint_of(folder, most_frames=MOST_FRAMES)
    num_frames = _within(call.defaults[call.frames], LEAST_FRAMES, MOST_FRAMES, 49)
    return {
        "honours": (Honours.BLUR,) if step is None else (Honours.BLUR, Honours.LAST_FRAME),
        "num_frames": Span(low=LEAST_FRAMES, high=MOST_FRAMES, step=step),
        "footprint": footprint,
        "vram_bytes": footprint.least_bytes(width=896, height=512, num_frames=num_frames),
        "uses_prompt": "prompt" in call.takes,
        "uses_negative_prompt": "negative_prompt" in call.takes,
        "uses_guidance": call.guidance is not None,
        "prompt_languages": _languages(folder),
        "defaults": Defaults(
            resolution=Resolution.P512,
            num_frames=num_frames,
            fps=_within(call.defaults[call.fps] if call.fps else None, 1, 60, USUAL_FPS),
            num_inference_steps=_within(call.defaults["num_inference_steps"], 1, 200, 50),
            guidance_scale=_within(
                call.defaults[call.guidance] if call.guidance else None, 0, 30, 5
            ),
        ),
    }


def _languages(folder: Folder) -> tuple[str, ...]:
    kinds = [kind for name, (_, kind) in folder.parts.items() if name.startswith("text_encoder")]
    reads_more = any(kind.startswith(MANY_LANGUAGES) for kind in kinds)
    return ("en", "zh") if reads_more else ("en",)


def _within(value: object, low: int, high: int, usual: int) -> int:
    if isinstance(value, int | float) and low <= value <= high:
        return int(value)
    return usual
