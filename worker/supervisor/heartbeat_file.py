"""A few bytes shared by a worker's processes: the drain, the last progress, idle or not."""

import mmap
import struct
import time
from pathlib import Path
from typing import Final, Self

# Little-endian: drain deadline, last progress, stall limit (seconds), the child's pid and
# incarnation, whether it is idle, whether it has drained, and progress and limit of a load beside
# the renders. 8-byte fields are written as a whole on every machine that we run on, so no lock is
# needed.
_LAYOUT: Final = {
    **{"drain_until": 0, "stamp": 8, "limit": 16},
    **{"pid": 24, "incarnation": 32, "idle": 40, "drained": 48},
    **{"load_stamp": 56, "load_limit": 64},
}
_BYTES: Final = 72


class HeartbeatFile:
    """The heartbeat file of one GPU: the supervisor asks for a drain, the child writes progress.

    Celery's main process takes a bell for the child only while the child says that it is idle.

    Times are CLOCK_MONOTONIC seconds, which all processes of a machine share.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("r+b")
        self._map = mmap.mmap(self._file.fileno(), _BYTES)

    @classmethod
    def create(cls, path: Path) -> Self:
        path.write_bytes(bytes(_BYTES))
        return cls(path)

    def vacate(self) -> None:
        """Forget all earlier values, because a new worker starts here."""
        self._map[:] = bytes(_BYTES)

    def ask_to_drain(self, within_seconds: float) -> None:
        """Ask the child to end: to finish what it can in this time, and hand back the rest."""
        self._write("drain_until", time.monotonic() + within_seconds)

    @property
    def drain_seconds_left(self) -> float | None:
        """The remaining time of a drain, or None if none was requested."""
        until = self._read("drain_until")
        return None if until == 0 else max(0.0, until - time.monotonic())

    @property
    def is_draining(self) -> bool:
        return self._read("drain_until") != 0

    @property
    def is_drained(self) -> bool:
        """Say whether the child has finished or handed back all its jobs."""
        return self._read("drained") != 0

    @is_drained.setter
    def is_drained(self, is_so: bool) -> None:
        self._write("drained", float(is_so))

    @property
    def is_idle(self) -> bool:
        """Say whether the child waits for a bell: it has looked and found no job."""
        return self._read("idle") != 0

    @is_idle.setter
    def is_idle(self, is_so: bool) -> None:
        self._write("idle", float(is_so))

    def beat(self, limit_seconds: float) -> None:
        """Note progress now; the next is due within the limit."""
        self._write("limit", limit_seconds)
        self._write("stamp", time.monotonic())

    def idle(self) -> None:
        """Note that nothing is being rendered, so nothing can stall."""
        self._write("stamp", 0.0)

    def beat_of_load(self, limit_seconds: float) -> None:
        """Note the same for a model that is loaded beside the renders, which may hang alone."""
        self._write("load_limit", limit_seconds)
        self._write("load_stamp", time.monotonic())

    def end_load(self) -> None:
        """Note that no model is being loaded."""
        self._write("load_stamp", 0.0)

    @property
    def overdue_seconds(self) -> float:
        """How long the promised progress has been missing; 0 if it is not."""
        works = [(self._read("stamp"), self._read("limit"))]
        works.append((self._read("load_stamp"), self._read("load_limit")))
        now = time.monotonic()
        return max(0.0, *(now - stamp - limit for stamp, limit in works if stamp), 0.0)

    def register_child(self, pid: int, incarnation: int) -> None:
        """Note which child renders here now."""
        self.idle()
        self.end_load()
        self.is_idle = False
        self._write("incarnation", float(incarnation))
        self._write("pid", float(pid))

    def clear_child(self) -> None:
        """Note that no child renders here, because it is dead."""
        self.idle()
        self.end_load()
        self.is_idle = False
        self._write("pid", 0.0)

    @property
    def pid(self) -> int:
        """The child that renders; 0 before one has started."""
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
