"""Wan 2.2: an image and a prompt, in many languages, become a clip by diffusers' pipeline."""

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Final

from shared.engines.spec import (
    Defaults,
    EngineSpec,
    Honours,
    Licence,
    Preset,
    Quality,
    Recipe,
    Resolution,
    Shape,
    Span,
)
from shared.errors import ModelLoading
from shared.settings import Settings
from worker.engines.base import Frames, OnProgress, OnStep, Plan, RenderRequest
from worker.engines.diffusion.checkpoint import find, revision
from worker.engines.wan.checkpoint import LAYOUT, NAME, has_two_experts
from worker.engines.wan.footprint import DEFAULT_BYTES, ONE_EXPERT, TWO_EXPERTS

if TYPE_CHECKING:  # torch and diffusers take seconds to import; the spec needs neither.
    from worker.engines.diffusion.compiled_blocks import CompiledBlocks
    from worker.engines.diffusion.encodings import Encodings
    from worker.engines.wan.model import Model

SPEC: Final = EngineSpec(
    name=NAME,
    title="Wan 2.2 TI2V-5B",
    description=(
        "Generates motion from the image and a sentence in English, Chinese or another language;"
        " it reads the first 512 tokens of the prompt."
    ),
    revision=LAYOUT.revision,
    ai_generated=True,
    uses_prompt=True,
    prompt_languages=("en", "zh", "mul"),  # umT5 learned 107 of them.
    uses_negative_prompt=True,
    needs_gpu=True,
    shape=Shape.BUCKETS,
    multiple=32,
    max_side=1408,
    honours=(Honours.BLUR,),
    num_frames=Span(low=5, high=121),
    defaults=Defaults(
        resolution=Resolution.P512,
        num_frames=49,
        fps=24,
        num_inference_steps=50,
        guidance_scale=5.0,
    ),
    presets=(
        Preset(name="short", num_frames=25),
        # The clip that its authors made it for: 5 s at 24 frames a second.
        Preset(name="full", resolution=Resolution.P768, num_frames=121),
    ),
    qualities={Quality.HIGH: Recipe(num_inference_steps=80, sampler="unipc")},
    vram_bytes=DEFAULT_BYTES,
    footprint=ONE_EXPERT,
    licence=Licence(
        name="Apache-2.0",
        url="https://huggingface.co/Wan-AI/Wan2.2-TI2V-5B-Diffusers",
        commercial_use="yes",
        note=(
            "Reported as Apache-2.0; the authors ask that nothing unlawful or harmful be made with"
            " it."
        ),
    ),
)


class WanEngine:
    """The model on one device; between clips it keeps the encodings of texts."""

    def __init__(self, settings: Settings) -> None:
        self.spec = _spec(settings)
        self.model: Model | None = None
        self._encodings: Encodings | None = None
        self._compiled: CompiledBlocks | None = None
        self._settings = settings

    def load(self, device: str, on_progress: OnProgress) -> None:
        if self.model is not None:
            return
        checkpoint = find(LAYOUT, self._settings, lambda done, what: on_progress(done / 2, what))
        on_progress(0.5, "starting torch")
        import torch

        from worker.engines.diffusion.encodings import Encodings
        from worker.engines.diffusion.faults import device_faults
        from worker.engines.wan.model import load_model

        where = torch.device(device)
        with device_faults(where, "this card is too small for Wan's weights"):
            self.model = load_model(
                checkpoint,
                where,
                lambda done, what: on_progress(0.5 + done / 2, what),
                memory=self._settings.memory,
            )
        self._encodings = Encodings()

    def warm(self, on_progress: OnProgress) -> None:
        """Compile the transformer's blocks for the clips of WARM_SHAPES that this model makes.

        In low memory nothing is compiled, because the blocks come and go. A clip that cannot be
        compiled is rendered eagerly.
        """
        if self.model is None or not self._is_to_compile(self.model) or self._compiled:
            return
        from worker.engines.diffusion.compiled_blocks import CompiledBlocks
        from worker.engines.wan.warming import render_one_step

        compiled = CompiledBlocks(self.model.experts, dynamic=False)
        clips = [clip for clip in self._settings.warm_clips if self._takes(*clip)]
        for index, (width, height, frames) in enumerate(clips):
            on_progress(index / len(clips), f"compiling {width} x {height}, {frames} frames")
            run = partial(render_one_step, self.model, width, height, frames)
            compiled.warm(self._shape(width, height, frames), run)
        self._compiled = compiled if compiled.has_clips else None

    def _is_to_compile(self, model: "Model") -> bool:
        if model.seats.one_at_a_time or self._settings.compile == "off":
            return False
        return self._settings.compile == "on" or model.device.type == "cuda"

    def _takes(self, width: int, height: int, frames: int) -> bool:
        span, sides = self.spec.num_frames, (width, height)
        fits = all(not side % self.spec.multiple and side <= self.spec.max_side for side in sides)
        return fits and span.low <= frames <= span.high

    def _shape(self, width: int, height: int, frames: int) -> tuple[int, int, int]:
        assert self.model is not None
        from worker.engines.wan.pipeline import frames_rendered

        return width, height, frames_rendered(self.model, frames)

    def _is_compiled(self, request: RenderRequest) -> bool:
        asked = request.parameters
        if self._compiled is None or self.model is None:
            return False
        return self._compiled.serves(self._shape(asked.width, asked.height, asked.num_frames))

    def plan(self, request: RenderRequest) -> Plan:
        asked = request.parameters
        plan: dict[str, str | int | float | bool | tuple[str, ...]] = {
            "mode": "compiled" if self._is_compiled(request) else "eager",
            "sampler": "unipc",
            "approximate": False,
            "is_guided": asked.guidance_scale > 1,
            "decode": "streamed",
        }
        if self.model is not None:
            from worker.engines.diffusion.texts import text_plan
            from worker.engines.wan.pipeline import frames_rendered
            from worker.engines.wan.text import MOST_TOKENS, cleaned

            plan["memory"] = "low" if self.model.seats.one_at_a_time else "normal"
            plan["precision"] = str(self.model.dtype).removeprefix("torch.")
            plan["frames_rendered"] = frames_rendered(self.model, asked.num_frames)
            texts = {name: cleaned(getattr(asked, name)) for name in ("prompt", "negative_prompt")}
            told = asked.model_copy(update=texts)
            plan.update(text_plan(self.spec.name, self.model.tokenizer, MOST_TOKENS, told))
        return plan

    def render(self, request: RenderRequest, on_step: OnStep) -> Iterator[Frames]:
        if self.model is None or self._encodings is None:
            raise ModelLoading(f"{NAME} is not in memory yet; the job is tried again")
        from worker.engines.diffusion.faults import device_faults, smaller_clip
        from worker.engines.diffusion.parts import broken_weights_named
        from worker.engines.wan.pipeline import render_clip

        faults = device_faults(self.model.device, smaller_clip(request.parameters))
        with faults, broken_weights_named(self.model.weighted):
            yield from render_clip(
                self.model, request, on_step, encodings=self._encodings, compiled=self._compiled
            )

    def unload(self) -> None:
        if self.model is None:
            return
        from worker.engines.diffusion.faults import release

        device = self.model.device
        self.model = self._encodings = self._compiled = None
        release(device)


def _spec(settings: Settings) -> EngineSpec:
    """Return the spec for the checkpoint of the settings."""
    named = {"revision": revision(LAYOUT, settings)}
    if not has_two_experts(settings):
        return SPEC.model_copy(update=named)
    return SPEC.model_copy(
        update={
            **named,
            "title": "Wan 2.2 I2V-A14B",
            "footprint": TWO_EXPERTS,
            # TI2V-5B ignores a last frame without an error. With a last frame the clip may not be
            # cut at its end, so only the numbers of frames that the model makes itself are
            # accepted.
            "honours": (*SPEC.honours, Honours.LAST_FRAME),
            "num_frames": Span(low=5, high=121, step=4),
            "defaults": SPEC.defaults.model_copy(
                update={"fps": 16, "num_inference_steps": 40, "guidance_scale": 3.5}
            ),
        }
    )
