"""Stable Video Diffusion: the image alone becomes a clip, of 14 frames or (XT) of 25."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar

from shared.engines.spec import Defaults, EngineSpec, Honours, Licence, Resolution, Shape, Span
from shared.errors import ModelLoading
from shared.settings import Settings
from worker.engines.base import Frames, OnProgress, OnStep, Plan, RenderRequest
from worker.engines.diffusion.checkpoint import Layout, find, revision
from worker.engines.svd.checkpoint import SVD, SVD_XT
from worker.engines.svd.footprint import FOOTPRINT, LOW_MEMORY_CHUNK

if TYPE_CHECKING:  # torch and diffusers take seconds to import; the spec needs neither.
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


class SvdEngine:
    """The model on one device."""

    layout: ClassVar[Layout] = SVD
    built_spec: ClassVar[EngineSpec] = _spec(SVD, title="Stable Video Diffusion", frames=14)

    def __init__(self, settings: Settings) -> None:
        named = {"revision": revision(self.layout, settings)}
        self.spec = self.built_spec.model_copy(update=named)
        self.model: Model | None = None
        self._settings = settings

    def load(self, device: str, on_progress: OnProgress) -> None:
        if self.model is not None:
            return
        checkpoint = find(
            self.layout, self._settings, lambda done, what: on_progress(done / 2, what)
        )
        on_progress(0.5, "starting torch")
        import torch

        from worker.engines.diffusion.faults import device_faults
        from worker.engines.svd.model import load_model

        where = torch.device(device)
        with device_faults(where, "this card is too small for SVD's weights: they take 4.2 GiB"):
            self.model = load_model(
                checkpoint, where, lambda done, what: on_progress(0.5 + done / 2, what)
            )

    def plan(self, request: RenderRequest) -> Plan:
        asked = request.parameters
        plan: dict[str, str | int | float | bool | tuple[str, ...]] = {
            "mode": "eager",
            "sampler": "euler",
            "approximate": False,
            "is_guided": asked.guidance_scale > 1,
        }
        if self.model is not None:
            # The decoder looks along the frames of one chunk, so the size of a chunk changes the
            # clip too.
            plan["decode_frames"] = self._decode_frames(request)
            plan["precision"] = str(self.model.dtype).removeprefix("torch.")
        return plan

    def render(self, request: RenderRequest, on_step: OnStep) -> Iterator[Frames]:
        if self.model is None:
            raise ModelLoading(f"{self.spec.name} is not in memory yet; the job is tried again")
        from worker.engines.diffusion.faults import device_faults, smaller_clip
        from worker.engines.diffusion.parts import broken_weights_named
        from worker.engines.svd.pipeline import render_clip

        faults = device_faults(self.model.device, smaller_clip(request.parameters))
        with faults, broken_weights_named(self.model.weighted):
            yield from render_clip(
                self.model, request, on_step, decode_frames=self._decode_frames(request)
            )

    def _decode_frames(self, request: RenderRequest) -> int:
        """Return how many frames are decoded at once: all, or a few if memory is short."""
        assert self.model is not None
        from worker.engines.diffusion.memory import card_bytes

        asked = request.parameters
        is_low = self._settings.memory == "low"
        if self._settings.memory == "auto" and self.model.device.type == "cuda":
            whole = FOOTPRINT.bytes_in(
                FOOTPRINT.ways[0],
                width=asked.width,
                height=asked.height,
                num_frames=asked.num_frames,
            )
            is_low = card_bytes(self.model.device) < whole
        return min(LOW_MEMORY_CHUNK, asked.num_frames) if is_low else asked.num_frames

    def unload(self) -> None:
        if self.model is None:
            return
        from worker.engines.diffusion.faults import release

        device = self.model.device
        self.model = None
        release(device)


class SvdXtEngine(SvdEngine):
    """The same model, trained on longer clips."""

    layout = SVD_XT
    built_spec = _spec(SVD_XT, title="Stable Video Diffusion XT", frames=25)
