"""I2VGen-XL: one image and a prompt become a clip, by our own loop over diffusers' parts."""

import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from shared.engines.parameters import RenderParameters
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
from shared.errors import ModelLoading
from shared.settings import Settings
from worker.engines.base import Frames, OnProgress, OnStep, Plan, RenderRequest
from worker.engines.diffusion.checkpoint import find, revision
from worker.engines.i2vgen.checkpoint import LAYOUT, NAME
from worker.engines.i2vgen.footprint import FOOTPRINT, needed

if TYPE_CHECKING:  # torch and diffusers take seconds to import; the spec needs neither.
    from worker.engines.diffusion.encodings import Encodings
    from worker.engines.i2vgen.compiled import Compiled
    from worker.engines.i2vgen.memory import MemoryUse
    from worker.engines.i2vgen.weights import Model

log = logging.getLogger(__name__)

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


class I2VGenXLEngine:
    """The model on one device; between clips it keeps the encodings of texts and images."""

    def __init__(self, settings: Settings) -> None:
        self.spec = SPEC.model_copy(update={"revision": revision(LAYOUT, settings)})
        self.model: Model | None = None
        self.memory: MemoryUse | None = None
        self._encodings: Encodings | None = None
        self._compiled: Compiled | None = None
        self._settings = settings

    def load(self, device: str, on_progress: OnProgress) -> None:
        if self.model is not None:
            return
        checkpoint = find(LAYOUT, self._settings, lambda done, what: on_progress(done / 2, what))
        on_progress(0.5, "starting torch")
        import torch

        from worker.engines.diffusion.encodings import Encodings
        from worker.engines.diffusion.faults import device_faults
        from worker.engines.i2vgen.memory import choose
        from worker.engines.i2vgen.weights import load_model

        where = torch.device(device)
        self.memory = choose(self._settings.memory, where)
        self._encodings = Encodings()
        with device_faults(where, "this card is too small: I2VGen-XL's weights take 4.7 GiB"):
            self.model = load_model(
                checkpoint,
                where,
                lambda done, what: on_progress(0.5 + done / 2, what),
                encoders_stay=self.memory.encoders_stay,
            )

    def warm(self, on_progress: OnProgress) -> None:
        """Compile for the shapes of WARM_SHAPES; a shape that fails is rendered eagerly.

        In low memory nothing is compiled, because recorded launches hold the memory of their
        activations.
        """
        if self.model is None or self.memory is None or not self._is_to_compile(self.memory):
            return
        from worker.engines.i2vgen.compile_cache import keep_on_disk
        from worker.engines.i2vgen.compiled import Compiled, WarmShape, whole_graph

        if self._compiled is None:
            keep_on_disk(self._settings.data_dir / "compiled", self.model.device)
            self._compiled = Compiled(self.model, compiler=whole_graph)
        clips = [clip for clip in self._settings.warm_clips if self._takes(*clip)]
        for index, (width, height, frames) in enumerate(clips):
            on_progress(index / len(clips), f"compiling {width} x {height}, {frames} frames")
            shape = WarmShape.of_clip(self.model, width, height, frames)
            self._compiled.warm(shape, decode_frames=self.memory.decode_frames)
        if not self._compiled.has_shapes:
            self._compiled.undo()
            self._compiled = None

    def _is_to_compile(self, memory: "MemoryUse") -> bool:
        if memory.name == "low" or self._settings.compile == "off":
            return False
        assert self.model is not None
        return self._settings.compile == "on" or self.model.device.type == "cuda"

    def _takes(self, width: int, height: int, frames: int) -> bool:
        spec = self.spec
        fits = all(side % spec.multiple == 0 and side <= spec.max_side for side in (width, height))
        if not fits or not spec.num_frames.low <= frames <= spec.num_frames.high:
            log.warning("warm_shape_is_not_ours: %dx%dx%d", width, height, frames)
            return False
        return True

    def plan(self, request: RenderRequest) -> Plan:
        parameters = request.parameters
        plan: dict[str, str | int | float | bool | tuple[str, ...]] = {
            "mode": "compiled" if self._is_compiled(request) else "eager",
            "sampler": "ddim",
            "approximate": parameters.approximate,
            "is_guided": parameters.guidance_scale > 1,
        }
        if parameters.quality in self.spec.qualities:
            plan["sampler"] = self.spec.qualities[parameters.quality].sampler
        if (use := self._use(parameters)) is not None:
            plan["memory"] = use.name
            plan["decode_frames"] = use.decode_frames
        if self.model is not None:
            from worker.engines.diffusion.texts import text_plan

            plan["precision"] = str(self.model.dtype).removeprefix("torch.")
            most = int(self.model.text_encoder.config.max_position_embeddings)
            plan.update(text_plan(self.spec.name, self.model.tokenizer, most, parameters))
        return plan

    def _is_compiled(self, request: RenderRequest) -> bool:
        given = request.parameters
        use = self._use(given)
        if self._compiled is None or self.model is None or use is None or use.one_row_at_a_time:
            return False
        from worker.engines.i2vgen.compiled import WarmShape

        shape = WarmShape.of_clip(self.model, given.width, given.height, given.num_frames)
        return given.guidance_scale > 1 and self._compiled.serves(shape)

    def render(self, request: RenderRequest, on_step: OnStep) -> Iterator[Frames]:
        use = self._use(request.parameters)
        if self.model is None or use is None or self._encodings is None:
            raise ModelLoading(f"{NAME} is not in memory yet; the job is tried again")
        from worker.engines.diffusion.faults import device_faults, smaller_clip
        from worker.engines.diffusion.parts import broken_weights_named
        from worker.engines.i2vgen.pipeline import render_clip

        faults = device_faults(self.model.device, smaller_clip(request.parameters))
        with faults, broken_weights_named(self.model.weighted):
            yield from render_clip(
                self.model,
                request,
                on_step,
                memory=use,
                encodings=self._encodings,
                compiled=self._compiled,
            )

    def _use(self, parameters: RenderParameters) -> "MemoryUse | None":
        """Return what the clip may keep on the card; None before the model is loaded."""
        if self.model is None or self.memory is None:
            return None
        from worker.engines.i2vgen.memory import for_clip

        is_auto = self._settings.memory == "auto"
        return for_clip(parameters, self.model.device) if is_auto else self.memory

    def unload(self) -> None:
        if self.model is None:
            return
        from worker.engines.diffusion.faults import release

        device = self.model.device
        self.model = self.memory = self._encodings = self._compiled = None
        release(device)
