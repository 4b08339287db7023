"""What a supervisor tells its child, through the environment."""

import json
import os
from dataclasses import asdict, dataclass
from typing import Final, Self

CONFIG_VARIABLE: Final = "STILLREEL_PLACE"


@dataclass(frozen=True, kw_only=True)
class WorkerConfig:
    """What a supervisor tells its child: which slot it fills, on which device.

    `device` is "cpu" or "cuda:0": CUDA_VISIBLE_DEVICES shows the child one card only.
    """

    worker: str
    heartbeat_path: str
    device: str
    cuda_visible_devices: str
    device_name: str | None
    vram_bytes: int | None
    engines: dict[str, str]

    def to_environment(self) -> dict[str, str]:
        return {CONFIG_VARIABLE: json.dumps(asdict(self))}

    @classmethod
    def from_environment(cls) -> Self:
        return cls(**json.loads(os.environ[CONFIG_VARIABLE]))

    def name(self, incarnation: int) -> str:
        """Return the name on a claim: one child's, so that a dead one can be told apart."""
        return f"{self.worker}#{incarnation:08x}"
