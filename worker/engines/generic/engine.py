"""A folder of diffusers as an engine: `name=diffusers:/folder`."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from shared.engines.entries import EngineEntry
from shared.engines.parameters import RenderParameters
from shared.errors import MissingWeights, ModelLoading
from shared.settings import Settings
from worker.engines.base import Frames, OnProgress, OnStep, Plan, RenderRequest
from worker.engines.generic.folder import Folder, read_folder
from worker.engines.generic.offer import spec_of

if TYPE_CHECKING:
    from worker.engines.generic.model import Model


class GenericEngine:
    """The folder's pipeline on one device.

    Its abilities are read from its class, so building this engine imports diffusers. A folder that
    cannot be served is built all the same, and refused when it is loaded.
    """

    def __init__(self, settings: Settings, entry: EngineEntry) -> None:
        self._settings = settings
        self._refusal: MissingWeights | None = None
        self._folder: Folder | None = None
        try:
            self._folder = read_folder(Path(entry.target))
        except MissingWeights as refusal:
            self._refusal = refusal
        self.spec = spec_of(entry.name, Path(entry.target), self._folder)
        self.model: Model | None = None

    def load(self, device: str, on_progress: OnProgress) -> None:
        if self.model is not None:
            return
        if self._folder is None:
            assert self._refusal is not None
            raise MissingWeights(self._refusal.message)
        import torch

        from worker.engines.diffusion.faults import device_faults
        from worker.engines.generic.model import load_model

        where = torch.device(device)
        with device_faults(where, f"this card is too small for the weights of {self.spec.name}"):
            self.model = load_model(self._folder, where, on_progress, memory=self._settings.memory)

    def plan(self, request: RenderRequest) -> Plan:
        asked = request.parameters
        plan: dict[str, str | int | float | bool | tuple[str, ...]] = {
            "mode": "eager",
            "approximate": False,
            "is_guided": self.spec.uses_guidance and asked.guidance_scale > 1,
            "decode": "whole",
        }
        if self.model is not None:
            plan["pipeline"] = self.model.folder.call.kind
            plan["memory"] = "low" if self.model.seats.one_at_a_time else "normal"
            plan["precision"] = str(self.model.dtype).removeprefix("torch.")
            plan["frames_rendered"] = self.model.frames_rendered(asked.num_frames)
            plan.update(self._text_plan(self.model, asked))
            if (size := self.model.fixed_size) is not None:
                plan["size_rendered"] = f"{size[0]} x {size[1]}"
        return plan

    def _text_plan(
        self, model: "Model", asked: RenderParameters
    ) -> "dict[str, bool | tuple[str, ...]]":
        """Return which parts of the texts are not read, if the class says how much it reads."""
        from worker.engines.diffusion.texts import text_plan

        tokenizer = getattr(model.pipeline, "tokenizer", None)
        most = model.folder.call.defaults.get("max_sequence_length")
        if tokenizer is None or not isinstance(most, int) or not self.spec.uses_prompt:
            return {}
        return text_plan(self.spec.name, tokenizer, most, asked)

    def render(self, request: RenderRequest, on_step: OnStep) -> Iterator[Frames]:
        if self.model is None:
            raise ModelLoading(f"{self.spec.name} is not in memory yet; the job is tried again")
        from worker.engines.diffusion.faults import device_faults, smaller_clip
        from worker.engines.diffusion.parts import broken_weights_named
        from worker.engines.generic.pipeline import render_clip

        faults = device_faults(self.model.device, smaller_clip(request.parameters))
        with faults, broken_weights_named(self.model.weighted):
            yield from render_clip(self.model, request, on_step)

    def unload(self) -> None:
        if self.model is None:
            return
        from worker.engines.diffusion.faults import release

        device = self.model.device
        self.model = None
        release(device)
