"""The common part of engines over a model of diffusers: load it, render with it, unload it."""

import logging
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Protocol, TypeVar

from shared.engines.spec import EngineSpec
from shared.errors import ModelLoading
from shared.settings import Settings
from worker.engines.base import Frames, OnProgress, OnStep, Plan, RenderRequest
from worker.engines.diffusion.checkpoint import Checkpoint, Layout, find, revision

if TYPE_CHECKING:  # torch and diffusers take seconds to import; the spec needs neither.
    import torch

log = logging.getLogger(__name__)


class ModelInMemory(Protocol):
    """A model on one device, as a family's `load_model` returns it."""

    @property
    def device(self) -> "torch.device": ...

    @property
    def dtype(self) -> "torch.dtype": ...

    @property
    def weighted(self) -> Mapping[str, Any]:
        """Return the parts with weights, by name."""


ModelT = TypeVar("ModelT", bound=ModelInMemory)


class DiffusionEngine(ABC, Generic[ModelT]):
    """One model on one device.

    A family defines what its model can do (`spec`), where its weights are (`layout`), how they are
    read, the plan of a render, and how a clip is made. This class does the rest.
    """

    layout: ClassVar[Layout]
    too_small: str
    """The error's sentence if the weights do not fit on the card."""

    def __init__(self, settings: Settings, spec: EngineSpec) -> None:
        self.spec = spec
        self.model: ModelT | None = None
        self._settings = settings

    @abstractmethod
    def _read(
        self, checkpoint: Checkpoint, device: "torch.device", on_progress: OnProgress
    ) -> ModelT:
        """Return the model on the device."""

    @abstractmethod
    def _plan(self, model: ModelT, request: RenderRequest) -> Plan:
        """Return the plan's entries beside the model's precision, or in place of usual ones."""

    @abstractmethod
    def _clip(self, model: ModelT, request: RenderRequest, on_step: OnStep) -> Iterator[Frames]:
        """Yield the clip's frames."""

    def _find(self, on_progress: OnProgress) -> Checkpoint:
        return find(self.layout, self._settings, on_progress)

    def load(self, device: str, on_progress: OnProgress) -> None:
        if self.model is not None:
            return
        checkpoint = self._find(lambda done, what: on_progress(done / 2, what))
        on_progress(0.5, "starting torch")
        import torch

        from worker.engines.diffusion.faults import device_faults

        where = torch.device(device)
        with device_faults(where, self.too_small):
            self.model = self._read(
                checkpoint, where, lambda done, what: on_progress(0.5 + done / 2, what)
            )

    def plan(self, request: RenderRequest) -> Plan:
        guidance = request.parameters.guidance_scale
        usual: Plan = {"mode": "eager", "approximate": False, "is_guided": guidance > 1}
        if self.model is None:
            return usual
        precision = str(self.model.dtype).removeprefix("torch.")
        return {**usual, "precision": precision, **self._plan(self.model, request)}

    def render(self, request: RenderRequest, on_step: OnStep) -> Iterator[Frames]:
        if self.model is None:
            raise ModelLoading(f"{self.spec.name} is not in memory yet; the job is tried again")
        from worker.engines.diffusion.faults import device_faults, smaller_clip
        from worker.engines.diffusion.parts import broken_weights_named

        faults = device_faults(self.model.device, smaller_clip(request.parameters))
        with faults, broken_weights_named(self.model.weighted):
            yield from self._clip(self.model, request, on_step)

    def unload(self) -> None:
        if self.model is None:
            return
        from worker.engines.diffusion.faults import release

        device = self.model.device
        self.model = None
        release(device)

    def _is_to_compile(self, model: ModelT, *, is_low: bool) -> bool:
        """Say whether the settings ask for it: never in low memory; with `auto` only on a card."""
        if is_low or self._settings.compile == "off":
            return False
        return self._settings.compile == "on" or model.device.type == "cuda"

    def _warm_clips(self) -> list[tuple[int, int, int]]:
        """Return those of WARM_SHAPES that this engine makes: width, height, frames."""
        clips = [(clip, self._makes(*clip)) for clip in self._settings.warm_clips]
        for clip in (clip for clip, is_ours in clips if not is_ours):
            log.warning("warm_shape_is_not_ours: %dx%dx%d", *clip)
        return [clip for clip, is_ours in clips if is_ours]

    def _makes(self, width: int, height: int, frames: int) -> bool:
        span, sides = self.spec.num_frames, (width, height)
        fits = all(not side % self.spec.multiple and side <= self.spec.max_side for side in sides)
        return fits and span.low <= frames <= span.high


def of_the_weights(spec: EngineSpec, layout: Layout, settings: Settings) -> EngineSpec:
    """Return the spec with the revision of the weights that the settings name."""
    return spec.model_copy(update={"revision": revision(layout, settings)})
