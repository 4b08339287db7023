"""A few bytes shared by a supervisor and its child: drain, and the last sign of progress."""

import json
import mmap
import os
import struct
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, Self

# Little-endian: drain deadline, last progress, stall limit (seconds), child's pid and
# incarnation. 8-byte fields are written whole on every machine we run on, so no lock is needed.
_LAYOUT: Final = {"drain_until": 0, "stamp": 8, "limit": 16, "pid": 24, "incarnation": 32}
_BYTES: Final = 40


class Slot:
    """One GPU's place: the supervisor asks for a drain in it, the child leaves its stamp.

    Times are CLOCK_MONOTONIC seconds, which all processes of a machine share.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("r+b")
        self._map = mmap.mmap(self._file.fileno(), _BYTES)

    @classmethod
    def create(cls, path: Path) -> Self:
        path.write_bytes(bytes(_BYTES))
        return cls(path)

    def ask_to_drain(self, within_seconds: float) -> None:
        """Ask the child to end: finish what can be done in this time, hand back the rest."""
        self._write("drain_until", time.monotonic() + within_seconds)

    def ask_for_work(self) -> None:
        """Take a drain back, for the child that starts next."""
        self._write("drain_until", 0.0)

    @property
    def drain_seconds_left(self) -> float | None:
        """What is left of a drain, or None where none was asked for."""
        until = self._read("drain_until")
        return None if until == 0 else max(0.0, until - time.monotonic())

    @property
    def is_draining(self) -> bool:
        return self._read("drain_until") != 0

    def stamp(self, limit_seconds: float) -> None:
        """Say: there was progress now, and the next is due within the limit."""
        self._write("limit", limit_seconds)
        self._write("stamp", time.monotonic())

    def rest(self) -> None:
        """Say: nothing is being rendered, so nothing can stall."""
        self._write("stamp", 0.0)

    @property
    def overdue_seconds(self) -> float:
        """How long the promised progress has been missing; 0 while all is well."""
        stamp = self._read("stamp")
        if stamp == 0:
            return 0.0
        return max(0.0, time.monotonic() - stamp - self._read("limit"))

    def move_in(self, pid: int, incarnation: int) -> None:
        """Say who renders here now."""
        self.rest()
        self._write("incarnation", float(incarnation))
        self._write("pid", float(pid))

    def move_out(self) -> None:
        """Say that nobody does: the child is dead."""
        self.rest()
        self._write("pid", 0.0)

    @property
    def pid(self) -> int:
        """The child that renders, 0 where none has come up yet."""
        return int(self._read("pid"))

    @property
    def incarnation(self) -> int:
        return int(self._read("incarnation"))

    def close(self) -> None:
        self._map.close()
        self._file.close()

    def _read(self, field: str) -> float:
        value: float = struct.unpack_from("<d", self._map, _LAYOUT[field])[0]
        return value

    def _write(self, field: str, value: float) -> None:
        struct.pack_into("<d", self._map, _LAYOUT[field], value)


PLACE_VARIABLE: Final = "STILLREEL_PLACE"


@dataclass(frozen=True, kw_only=True)
class Place:
    """What a supervisor tells its child: which slot it fills, on which device.

    `device` is "cpu" or "cuda:0": CUDA_VISIBLE_DEVICES shows the child one card only.
    """

    worker: str
    slot_file: str
    device: str
    cuda_visible_devices: str
    device_name: str | None
    vram_bytes: int | None
    engines: dict[str, str]

    def to_environment(self) -> dict[str, str]:
        return {PLACE_VARIABLE: json.dumps(asdict(self))}

    @classmethod
    def from_environment(cls) -> Self:
        return cls(**json.loads(os.environ[PLACE_VARIABLE]))

    def name(self, incarnation: int) -> str:
        """Return the name on a claim: one child's, so that a dead one can be told apart."""
        return f"{self.worker}#{incarnation:08x}"
