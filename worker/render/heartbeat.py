"""The worker's own heartbeat, which shows it to the gateway."""

import threading
import time
from collections.abc import Callable
from typing import Final

import structlog

from shared.engines.registry import Fleet, WorkerCard
from shared.errors import DatabaseUnavailable
from worker.supervisor.heartbeat_file import Slot

_log = structlog.get_logger(__name__)


class Herald:
    """Shows the worker to the gateway every few seconds; called by the lease thread."""

    PERIOD_SECONDS: Final = 5.0

    def __init__(self, fleet: Fleet, card: Callable[[str], WorkerCard], slot: Slot) -> None:
        self._fleet = fleet
        self._card = card
        self._slot = slot
        self._next = 0.0
        self._lock = threading.Lock()

    def __call__(self) -> None:
        with self._lock:
            if time.monotonic() < self._next:
                return
            self._next = time.monotonic() + self.PERIOD_SECONDS
        try:
            self._fleet.beat(self._card("draining" if self._slot.is_draining else "ready"))
        except DatabaseUnavailable:
            _log.warning("worker_beat_missed")
