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
from shared.settings import Settings
from worker.engines.animatediff.checkpoint import LAYOUT, MOST_FRAMES, NAME
from worker.engines.animatediff.footprint import DECODED_AT_ONCE, FOOTPRINT
from worker.engines.base import Frames, OnProgress, OnStep, Plan, RenderRequest
from worker.engines.diffusion.checkpoint import Checkpoint
from worker.engines.diffusion.engine import DiffusionEngine, of_the_weights

if TYPE_CHECKING:  # torch and diffusers take seconds to import; the spec needs neither.
    import torch

    from worker.engines.animatediff.model import Model

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


class AnimateDiffEngine(DiffusionEngine["Model"]):
    """The model on one device; between clips it keeps the encodings of texts and images."""

    layout = LAYOUT
    too_small = "this card is too small for AnimateDiff's weights: 4 GiB"

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings, of_the_weights(SPEC, LAYOUT, settings))

    def _read(
        self, checkpoint: Checkpoint, device: "torch.device", on_progress: OnProgress
    ) -> "Model":
        from worker.engines.animatediff.model import load_model

        return load_model(checkpoint, device, on_progress)

    def _plan(self, model: "Model", request: RenderRequest) -> Plan:
        from worker.engines.diffusion.texts import text_plan

        tokenizer = model.pipeline.tokenizer
        most = int(tokenizer.model_max_length)
        return {
            "sampler": "dpmsolver++",
            "decode_frames": DECODED_AT_ONCE,
            **text_plan(self.spec.name, tokenizer, most, request.parameters),
        }

    def _clip(self, model: "Model", request: RenderRequest, on_step: OnStep) -> Iterator[Frames]:
        from worker.engines.animatediff.pipeline import render_clip

        return render_clip(model, request, on_step)
