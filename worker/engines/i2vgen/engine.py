"""I2VGen-XL: one image and a prompt become a clip, by our own loop over diffusers' parts."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from shared.engines.spec import (
    EngineSpec,
    Honours,
    Licence,
    Preset,
    Quality,
    Recipe,
    Resolution,
    Shape,
)
from shared.settings import Settings
from worker.engines.base import Frames, OnProgress, OnStep, Plan, RenderRequest
from worker.engines.diffusion.checkpoint import Checkpoint
from worker.engines.diffusion.engine import DiffusionEngine, of_the_weights
from worker.engines.i2vgen.checkpoint import LAYOUT, NAME
from worker.engines.i2vgen.footprint import FOOTPRINT, needed

if TYPE_CHECKING:  # torch and diffusers take seconds to import; the spec needs neither.
    import torch

    from worker.engines.i2vgen.compiled import Compiled
    from worker.engines.i2vgen.memory import MemoryUse
    from worker.engines.i2vgen.weights import Model

SPEC: Final = EngineSpec(
    name=NAME,
    title="I2VGen-XL",
    description=(
        "Generates motion from the image and a sentence that says what moves;"
        " it reads the first 75 tokens of the prompt, some 50 words."
    ),
    revision=LAYOUT.revision,
    ai_generated=True,
    uses_prompt=True,
    uses_negative_prompt=True,
    needs_gpu=True,
    shape=Shape.BUCKETS,
    multiple=64,
    max_side=2048,
    honours=(Honours.BLUR,),
    presets=(
        Preset(
            name="person",
            resolution=Resolution.P512,
            num_frames=16,
            fps=8,
            num_inference_steps=60,
            guidance_scale=10.0,
        ),
        Preset(
            name="landscape",
            resolution=Resolution.P768,
            num_frames=24,
            fps=12,
            num_inference_steps=80,
            guidance_scale=9.5,
        ),
        Preset(
            name="product",
            resolution=Resolution.P512,
            num_frames=16,
            fps=8,
            num_inference_steps=50,
            guidance_scale=8.0,
        ),
    ),
    qualities={
        # docs/performance.md has a draft's error, and how more steps would change it.
        Quality.DRAFT: Recipe(
            num_inference_steps=20, sampler="dpmsolver++ trailing", approximate=True
        ),
        Quality.HIGH: Recipe(num_inference_steps=80, sampler="ddim"),
    },
    vram_bytes=needed("normal", width=512, height=512, num_frames=16),
    footprint=FOOTPRINT,
    licence=Licence(
        name="MIT",
        url="https://huggingface.co/ali-vilab/i2vgen-xl",
        commercial_use="ask",
        note=(
            "The model card says MIT. Its maintainers wrote in December 2023 that their models"
            " are limited to academic use and do not support commercial use"
            " (github.com/ali-vilab/VGen, issue 10). Ask them before using it commercially."
        ),
    ),
)


class I2VGenXLEngine(DiffusionEngine["Model"]):
    """The model on one device; between clips it keeps the encodings of texts and images."""

    layout = LAYOUT
    too_small = "this card is too small: I2VGen-XL's weights take 4.7 GiB"

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings, of_the_weights(SPEC, LAYOUT, settings))
        self._compiled: Compiled | None = None

    def _read(
        self, checkpoint: Checkpoint, device: "torch.device", on_progress: OnProgress
    ) -> "Model":
        from worker.engines.i2vgen.memory import choose
        from worker.engines.i2vgen.weights import load_model

        use = choose(self._settings.memory, device)
        return load_model(checkpoint, device, on_progress, encoders_stay=use.encoders_stay)

    def warm(self, on_progress: OnProgress) -> None:
        """Compile for the shapes of WARM_SHAPES; a shape that fails is rendered eagerly.

        In low memory nothing is compiled, because recorded launches hold the memory of their
        activations.
        """
        model = self.model
        if model is None:
            return
        from worker.engines.i2vgen.memory import LOW, choose

        use = choose(self._settings.memory, model.device)
        if not self._is_to_compile(model, is_low=use == LOW):
            return
        from worker.engines.i2vgen.compile_cache import keep_on_disk
        from worker.engines.i2vgen.compiled import Compiled, WarmShape, whole_graph

        if self._compiled is None:
            keep_on_disk(self._settings.data_dir / "compiled", model.device)
            self._compiled = Compiled(model, compiler=whole_graph)
        clips = self._warm_clips()
        for index, (width, height, frames) in enumerate(clips):
            on_progress(index / len(clips), f"compiling {width} x {height}, {frames} frames")
            shape = WarmShape.of_clip(model, width, height, frames)
            self._compiled.warm(shape, decode_frames=use.decode_frames)
        if not self._compiled.has_shapes:
            self._compiled.undo()
            self._compiled = None

    def _plan(self, model: "Model", request: RenderRequest) -> Plan:
        from worker.engines.diffusion.texts import text_plan

        asked, use = request.parameters, self._use(model, request)
        recipe = self.spec.qualities.get(asked.quality)
        most = int(model.text_encoder.config.max_position_embeddings)
        return {
            "mode": "compiled" if self._is_compiled(model, request, use) else "eager",
            "sampler": "ddim" if recipe is None else recipe.sampler,
            "approximate": asked.approximate,
            "memory": use.name,
            "decode_frames": use.decode_frames,
            **text_plan(self.spec.name, model.tokenizer, most, asked),
        }

    def _is_compiled(self, model: "Model", request: RenderRequest, use: "MemoryUse") -> bool:
        asked = request.parameters
        if self._compiled is None or use.one_row_at_a_time:
            return False
        from worker.engines.i2vgen.compiled import WarmShape

        shape = WarmShape.of_clip(model, asked.width, asked.height, asked.num_frames)
        return asked.guidance_scale > 1 and self._compiled.serves(shape)

    def _clip(self, model: "Model", request: RenderRequest, on_step: OnStep) -> Iterator[Frames]:
        from worker.engines.i2vgen.pipeline import render_clip

        return render_clip(
            model,
            request,
            on_step,
            memory=self._use(model, request),
            encodings=model.encodings,
            compiled=self._compiled,
        )

    def _use(self, model: "Model", request: RenderRequest) -> "MemoryUse":
        """Return what the clip may keep on the card."""
        from worker.engines.i2vgen.memory import choose, for_clip

        if self._settings.memory == "auto":
            return for_clip(request.parameters, model.device)
        return choose(self._settings.memory, model.device)

    def unload(self) -> None:
        self._compiled = None
        super().unload()
