"""AnimateDiff with SparseCtrl: an image, and more keyframes, become a clip of up to 32 frames."""

from collections.abc import Iterator
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
from worker.engines.animatediff.checkpoint import LAYOUT, MOST_FRAMES, NAME
from worker.engines.animatediff.footprint import DECODED_AT_ONCE, FOOTPRINT
from worker.engines.base import Frames, OnProgress, OnStep, Plan, RenderRequest
from worker.engines.diffusion.checkpoint import find, revision

if TYPE_CHECKING:  # torch and diffusers take seconds to import; the spec needs neither.
    from worker.engines.animatediff.model import Model
    from worker.engines.diffusion.encodings import Encodings

SPEC: Final = EngineSpec(
    name=NAME,
    title="AnimateDiff with SparseCtrl",
    description=(
        "Generates motion from the image through further keyframes, as a sentence says; it reads"
        " the first 75 tokens of the prompt, some 50 words."
    ),
    revision=LAYOUT.revision,
    ai_generated=True,
    uses_prompt=True,
    uses_negative_prompt=True,
    needs_gpu=True,
    shape=Shape.BUCKETS,
    multiple=64,
    max_side=1024,
    honours=(Honours.BLUR, Honours.LAST_FRAME, Honours.KEYFRAMES),
    num_frames=Span(low=8, high=MOST_FRAMES),
    defaults=Defaults(
        resolution=Resolution.P512,
        num_frames=16,
        fps=8,
        num_inference_steps=25,
        guidance_scale=7.5,
    ),
    presets=(Preset(name="long", num_frames=MOST_FRAMES),),
    qualities={Quality.HIGH: Recipe(num_inference_steps=50, sampler="dpmsolver++")},
    vram_bytes=FOOTPRINT.least_bytes(width=512, height=512, num_frames=16),
    footprint=FOOTPRINT,
    licence=Licence(
        name="Apache-2.0, over CreativeML OpenRAIL-M",
        url="https://huggingface.co/stable-diffusion-v1-5/stable-diffusion-v1-5",
        commercial_use="conditions",
        note=(
            "As reported: the motion modules and SparseCtrl are Apache-2.0; Stable Diffusion 1.5"
            " allows commercial use with use restrictions that you have to pass on."
        ),
    ),
)


class AnimateDiffEngine:
    """The model on one device; between clips it keeps the encodings of texts and images."""

    def __init__(self, settings: Settings) -> None:
        self.spec = SPEC.model_copy(update={"revision": revision(LAYOUT, settings)})
        self.model: Model | None = None
        self._encodings: Encodings | None = None
        self._settings = settings

    def load(self, device: str, on_progress: OnProgress) -> None:
        if self.model is not None:
            return
        checkpoint = find(LAYOUT, self._settings, lambda done, what: on_progress(done / 2, what))
        on_progress(0.5, "starting torch")
        import torch

        from worker.engines.animatediff.model import load_model
        from worker.engines.diffusion.encodings import Encodings
        from worker.engines.diffusion.faults import device_faults

        where = torch.device(device)
        with device_faults(where, "this card is too small for AnimateDiff's weights: 4 GiB"):
            self.model = load_model(
                checkpoint, where, lambda done, what: on_progress(0.5 + done / 2, what)
            )
        self._encodings = Encodings()

    def plan(self, request: RenderRequest) -> Plan:
        asked = request.parameters
        plan: dict[str, str | int | float | bool | tuple[str, ...]] = {
            "mode": "eager",
            "sampler": "dpmsolver++",
            "approximate": False,
            "is_guided": asked.guidance_scale > 1,
            "decode_frames": DECODED_AT_ONCE,
        }
        if self.model is not None:
            from worker.engines.diffusion.texts import text_plan

            plan["precision"] = str(self.model.dtype).removeprefix("torch.")
            tokenizer = self.model.pipeline.tokenizer
            most = int(tokenizer.model_max_length)
            plan.update(text_plan(self.spec.name, tokenizer, most, asked))
        return plan

    def render(self, request: RenderRequest, on_step: OnStep) -> Iterator[Frames]:
        if self.model is None or self._encodings is None:
            raise ModelLoading(f"{NAME} is not in memory yet; the job is tried again")
        from worker.engines.animatediff.pipeline import render_clip
        from worker.engines.diffusion.faults import device_faults, smaller_clip
        from worker.engines.diffusion.parts import broken_weights_named

        faults = device_faults(self.model.device, smaller_clip(request.parameters))
        with faults, broken_weights_named(self.model.weighted):
            yield from render_clip(self.model, request, on_step, encodings=self._encodings)

    def unload(self) -> None:
        if self.model is None:
            return
        from worker.engines.diffusion.faults import release

        device = self.model.device
        self.model = self._encodings = None
        release(device)
