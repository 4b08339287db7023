"""Stable Video Diffusion: the image alone becomes a clip, of 14 frames or (XT) of 25."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar

from shared.engines.spec import Defaults, EngineSpec, Honours, Licence, Resolution, Shape, Span
from shared.settings import Settings
from worker.engines.base import Frames, OnProgress, OnStep, Plan, RenderRequest
from worker.engines.diffusion.checkpoint import Checkpoint, Layout
from worker.engines.diffusion.engine import DiffusionEngine, of_the_weights
from worker.engines.svd.checkpoint import SVD, SVD_XT
from worker.engines.svd.footprint import FOOTPRINT, LOW_MEMORY_CHUNK

if TYPE_CHECKING:  # torch and diffusers take seconds to import; the spec needs neither.
    import torch

    from worker.engines.svd.model import Model


def _spec(layout: Layout, *, title: str, frames: int) -> EngineSpec:
    defaults = Defaults(
        resolution=Resolution.P512,
        num_frames=frames,
        fps=7,
        num_inference_steps=25,
        guidance_scale=3.0,
    )
    return EngineSpec(
        name=layout.name,
        title=title,
        description=f"Generates up to {frames} frames from the image alone; it reads no text.",
        revision=layout.revision,
        ai_generated=True,
        uses_prompt=False,
        needs_gpu=True,
        shape=Shape.BUCKETS,
        multiple=64,
        max_side=1024,
        honours=(Honours.BLUR,),
        num_frames=Span(low=8, high=frames),
        defaults=defaults,
        vram_bytes=FOOTPRINT.least_bytes(width=896, height=512, num_frames=frames),
        footprint=FOOTPRINT,
        licence=Licence(
            name="Stability AI Community License",
            url=f"https://huggingface.co/{layout.hub_id}",
            commercial_use="conditions",
            note=(
                "As reported: free for research, and commercially below one million US dollars of"
                " yearly revenue, after registering with Stability AI; above that a paid licence."
            ),
        ),
    )


class SvdEngine(DiffusionEngine["Model"]):
    """The model on one device."""

    layout = SVD
    too_small = "this card is too small for SVD's weights: they take 4.2 GiB"
    built_spec: ClassVar[EngineSpec] = _spec(SVD, title="Stable Video Diffusion", frames=14)

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings, of_the_weights(self.built_spec, self.layout, settings))

    def _read(
        self, checkpoint: Checkpoint, device: "torch.device", on_progress: OnProgress
    ) -> "Model":
        from worker.engines.svd.model import load_model

        return load_model(checkpoint, device, on_progress)

    def _plan(self, model: "Model", request: RenderRequest) -> Plan:
        # The decoder looks along the frames of one chunk, so the size of a chunk changes the clip
        # too.
        return {"sampler": "euler", "decode_frames": self._decode_frames(model, request)}

    def _clip(self, model: "Model", request: RenderRequest, on_step: OnStep) -> Iterator[Frames]:
        from worker.engines.svd.pipeline import render_clip

        decode_frames = self._decode_frames(model, request)
        return render_clip(model, request, on_step, decode_frames=decode_frames)

    def _decode_frames(self, model: "Model", request: RenderRequest) -> int:
        """Return how many frames are decoded at once: all, or a few if memory is short."""
        from worker.engines.diffusion.memory import card_bytes

        asked = request.parameters
        is_low = self._settings.memory == "low"
        if self._settings.memory == "auto" and model.device.type == "cuda":
            whole = FOOTPRINT.bytes_in(
                FOOTPRINT.ways[0],
                width=asked.width,
                height=asked.height,
                num_frames=asked.num_frames,
            )
            is_low = card_bytes(model.device) < whole
        return min(LOW_MEMORY_CHUNK, asked.num_frames) if is_low else asked.num_frames


class SvdXtEngine(SvdEngine):
    """The same model, trained on longer clips."""

    layout = SVD_XT
    built_spec = _spec(SVD_XT, title="Stable Video Diffusion XT", frames=25)
