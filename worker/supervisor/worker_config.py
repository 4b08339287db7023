"""What a supervisor tells its child, through environment variables."""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final, Self

from shared.engines.entries import EngineEntry, EngineKind

CONFIG_VARIABLE: Final = "STILLREEL_PLACE"


@dataclass(frozen=True, kw_only=True)
class WorkerConfig:
    """What a supervisor tells its child: its slot and its device.

    `device` is "cpu" or "cuda:0", because CUDA_VISIBLE_DEVICES shows the child only one card.
    `places` is how many jobs it renders at once: more than one only for remote renders.
    """

    worker: str
    heartbeat_path: str
    device: str
    cuda_visible_devices: str
    device_name: str | None
    vram_bytes: int | None
    engines: Mapping[str, EngineEntry]
    places: int = 1

    def to_environment(self) -> dict[str, str]:
        return {CONFIG_VARIABLE: json.dumps(asdict(self))}

    @classmethod
    def from_environment(cls) -> Self:
        told = json.loads(os.environ[CONFIG_VARIABLE])
        entries = {name: _entry(**entry) for name, entry in told.pop("engines").items()}
        return cls(engines=entries, **told)

    def name(self, incarnation: int) -> str:
        """Return the name on a claim, a child's own, so that a dead child can be recognised."""
        return f"{self.worker}#{incarnation:08x}"


def _entry(*, name: str, kind: str, targets: list[Any]) -> EngineEntry:
    return EngineEntry(name, EngineKind(kind), tuple(targets))
