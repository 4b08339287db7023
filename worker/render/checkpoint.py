"""An engine's notes about the job that it renders, under that job's lease."""

from collections.abc import Mapping
from typing import Any

from shared.jobs.checkpoints import Checkpoints
from worker.render.lease import Lease


class KeptCheckpoint:
    """An attempt's checkpoint: the next attempt reads it; it is written only under the lease."""

    def __init__(self, rows: Checkpoints, lease: Lease) -> None:
        self._rows = rows
        self._lease = lease

    def read(self, name: str) -> Mapping[str, Any] | None:
        return self._rows.read(self._lease.job.id, name)

    def write(self, name: str, value: Mapping[str, Any], *, is_open: bool = False) -> None:
        self._rows.write(self._lease.claim, name, value, is_open=is_open)
        self._lease.forgive()
