"""A folder of diffusers as an engine: `name=diffusers:/folder`."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from shared.engines.entries import EngineEntry
from shared.errors import MissingWeights
from shared.settings import Settings
from worker.engines.base import Frames, OnProgress, OnStep, Plan, RenderRequest
from worker.engines.diffusion.checkpoint import Checkpoint
from worker.engines.diffusion.engine import DiffusionEngine
from worker.engines.generic.folder import Folder, read_folder
from worker.engines.generic.offer import spec_of

if TYPE_CHECKING:
    import torch

    from worker.engines.generic.model import Model


class GenericEngine(DiffusionEngine["Model"]):
    """The folder's pipeline on one device.

    Its abilities are read from its class, so building this engine imports diffusers. A folder that
    cannot be served is built all the same, and refused when it is loaded.
    """

    def __init__(self, settings: Settings, entry: EngineEntry) -> None:
        self._refusal: MissingWeights | None = None
        self._folder: Folder | None = None
        try:
            self._folder = read_folder(Path(entry.target))
        except MissingWeights as refusal:
            self._refusal = refusal
        super().__init__(settings, spec_of(entry.name, self._folder))
        self.too_small = f"this card is too small for the weights of {entry.name}"

    def _find(self, on_progress: OnProgress) -> Checkpoint:
        if self._folder is None:
            assert self._refusal is not None
            raise MissingWeights(self._refusal.message)
        return Checkpoint(self._folder.path)

    def _read(
        self, checkpoint: Checkpoint, device: "torch.device", on_progress: OnProgress
    ) -> "Model":
        from worker.engines.generic.model import load_model

        assert self._folder is not None
        return load_model(self._folder, device, on_progress, memory=self._settings.memory)

    def _plan(self, model: "Model", request: RenderRequest) -> Plan:
        asked, size = request.parameters, model.fixed_size
        return {
            "is_guided": self.spec.uses_guidance and asked.guidance_scale > 1,
            "decode": "whole",
            "pipeline": model.folder.call.kind,
            "memory": "low" if model.seats.one_at_a_time else "normal",
            "frames_rendered": model.frames_rendered(asked.num_frames),
            **({} if size is None else {"size_rendered": f"{size[0]} x {size[1]}"}),
            **self._text_plan(model, request),
        }

    def _text_plan(self, model: "Model", request: RenderRequest) -> Plan:
        """Return which parts of the texts are not read, if the class says how much it reads."""
        from worker.engines.diffusion.texts import text_plan

        tokenizer = getattr(model.pipeline, "tokenizer", None)
        most = model.folder.call.defaults.get("max_sequence_length")
        if tokenizer is None or not isinstance(most, int) or not self.spec.uses_prompt:
            return {}
        return text_plan(self.spec.name, tokenizer, most, request.parameters)

    def _clip(self, model: "Model", request: RenderRequest, on_step: OnStep) -> Iterator[Frames]:
        from worker.engines.generic.pipeline import render_clip

        return render_clip(model, request, on_step)
