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
from shared.settings import Settings
from worker.engines.base import Frames, OnProgress, OnStep, Plan, RenderRequest
from worker.engines.diffusion.checkpoint import Checkpoint
from worker.engines.diffusion.engine import DiffusionEngine, of_the_weights
from worker.engines.wan.checkpoint import LAYOUT, NAME, has_two_experts
from worker.engines.wan.footprint import DEFAULT_BYTES, ONE_EXPERT, TWO_EXPERTS

if TYPE_CHECKING:  # torch and diffusers take seconds to import; the spec needs neither.
    import torch

    from worker.engines.diffusion.compiled_blocks import CompiledBlocks
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


class WanEngine(DiffusionEngine["Model"]):
    """The model on one device; between clips it keeps the encodings of texts."""

    layout = LAYOUT
    too_small = "this card is too small for Wan's weights"

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings, _spec(settings))
        self._compiled: CompiledBlocks | None = None

    def _read(
        self, checkpoint: Checkpoint, device: "torch.device", on_progress: OnProgress
    ) -> "Model":
        from worker.engines.wan.model import load_model

        return load_model(checkpoint, device, on_progress, memory=self._settings.memory)

    def warm(self, on_progress: OnProgress) -> None:
        """Compile the transformer's blocks for the clips of WARM_SHAPES that this model makes.

        In low memory nothing is compiled, because the blocks come and go. A clip that cannot be
        compiled is rendered eagerly.
        """
        model = self.model
        if model is None or self._compiled is not None:
            return
        if not self._is_to_compile(model, is_low=model.seats.one_at_a_time):
            return
        from worker.engines.diffusion.compiled_blocks import CompiledBlocks
        from worker.engines.wan.warming import render_one_step

        compiled, clips = CompiledBlocks(model.experts, dynamic=False), self._warm_clips()
        for index, (width, height, frames) in enumerate(clips):
            on_progress(index / len(clips), f"compiling {width} x {height}, {frames} frames")
            run = partial(render_one_step, model, width, height, frames)
            compiled.warm((width, height, model.frames_rendered(frames)), run)
        self._compiled = compiled if compiled.has_clips else None

    def _plan(self, model: "Model", request: RenderRequest) -> Plan:
        from worker.engines.diffusion.texts import text_plan
        from worker.engines.wan.text import MOST_TOKENS, cleaned

        asked = request.parameters
        frames = model.frames_rendered(asked.num_frames)
        texts = {name: cleaned(getattr(asked, name)) for name in ("prompt", "negative_prompt")}
        told, compiled = asked.model_copy(update=texts), self._compiled
        is_warm = compiled is not None and compiled.serves((asked.width, asked.height, frames))
        return {
            "mode": "compiled" if is_warm else "eager",
            "sampler": "unipc",
            "decode": "streamed",
            "memory": "low" if model.seats.one_at_a_time else "normal",
            "frames_rendered": frames,
            **text_plan(self.spec.name, model.tokenizer, MOST_TOKENS, told),
        }

    def _clip(self, model: "Model", request: RenderRequest, on_step: OnStep) -> Iterator[Frames]:
        from worker.engines.wan.pipeline import render_clip

        return render_clip(model, request, on_step, compiled=self._compiled)

    def unload(self) -> None:
        self._compiled = None
        super().unload()


def _spec(settings: Settings) -> EngineSpec:
    """Return what the checkpoint that the settings name can do."""
    spec = of_the_weights(SPEC, LAYOUT, settings)
    if not has_two_experts(settings):
        return spec
    return spec.model_copy(
        update={
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
