"""A pipeline of diffusers in memory, whose parts all stay on one device."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch

from worker.engines.diffusion.encodings import Encodings


@dataclass(frozen=True)
class WholePipeline:
    """The pipeline and its kept encodings; a family names the parts with weights."""

    names: ClassVar[tuple[str, ...]]
    pipeline: Any
    device: torch.device
    dtype: torch.dtype
    encodings: Encodings = field(default_factory=Encodings)

    @property
    def vae(self) -> Any:
        return self.pipeline.vae

    @property
    def weighted(self) -> Mapping[str, Any]:
        """Return the parts with weights, by name."""
        return {name: getattr(self.pipeline, name) for name in self.names}
