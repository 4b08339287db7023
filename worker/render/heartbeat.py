"""The worker's own heartbeat, which the gateway sees."""

import threading
import time
from collections.abc import Callable
from typing import Final

import structlog

from shared.engines.registry import EngineRegistry, WorkerInfo
from shared.errors import DatabaseUnavailable
from worker.supervisor.heartbeat_file import HeartbeatFile

_log = structlog.get_logger(__name__)


class WorkerHeartbeat:
    """Writes the worker's row every few seconds; the lease thread calls it."""

    PERIOD_SECONDS: Final = 5.0

    def __init__(
        self,
        registry: EngineRegistry,
        card: Callable[[str], WorkerInfo],
        heartbeat_file: HeartbeatFile,
    ) -> None:
        self._registry = registry
        self._card = card
        self._heartbeat_file = heartbeat_file
        self._next = 0.0
        self._lock = threading.Lock()

    def __call__(self) -> None:
        with self._lock:
            if time.monotonic() < self._next:
                return
            self._next = time.monotonic() + self.PERIOD_SECONDS
        try:
            self._registry.beat(
                self._card("draining" if self._heartbeat_file.is_draining else "ready")
            )
        except DatabaseUnavailable:
            _log.warning("worker_beat_missed")
