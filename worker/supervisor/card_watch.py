"""Checks whether the cards of this host still answer, and shows those that do not."""

import os
import socket
import threading
from collections.abc import Callable, Sequence
from typing import Final

import structlog

from shared.engines.registry import LOST, EngineRegistry, WorkerInfo
from shared.errors import DatabaseUnavailable
from worker.supervisor.gpus import CardsUnknown, Found
from worker.supervisor.worker_config import WorkerConfig

LOOK_SECONDS: Final = 30.0
BEAT_SECONDS: Final = 5.0
LOOKS: Final = 2
"""A card must be missed this many times in a row before its worker is stopped."""

_log = structlog.get_logger(__name__)


class CardWatch:
    """One thread that checks the cards, and shows the lost ones as long as they are lost.

    Args:
        places: those of the workers, and those of cards that were lost before.
        lost: the names of the lost ones.
    """

    def __init__(
        self,
        places: Sequence[WorkerConfig],
        lost: Sequence[str],
        *,
        look: Callable[[], Found],
        registry: EngineRegistry,
        look_seconds: float = LOOK_SECONDS,
        beat_seconds: float = BEAT_SECONDS,
    ) -> None:
        self._places = {place.worker: place for place in places if place.device != "cpu"}
        self._lost_before = frozenset(lost)
        self._missed = dict.fromkeys(lost, LOOKS)
        self._look = look
        self._registry = registry
        self._look_seconds = look_seconds
        self._beat_seconds = beat_seconds
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._run, name="cards", daemon=True)

    def start(self) -> None:
        if self._places:
            self._thread.start()

    def is_lost(self, worker: str) -> bool:
        """Say whether the card of this worker no longer answers."""
        return self._missed.get(worker, 0) >= LOOKS

    def close(self) -> None:
        self._ends.set()
        if self._thread.is_alive():
            self._thread.join(timeout=1)

    def _run(self) -> None:
        wait = 0.0
        while not self._ends.is_set():
            self.show()
            if wait <= 0:
                wait = self._look_seconds
                self.look()
            self._ends.wait(min(self._beat_seconds, wait))
            wait -= self._beat_seconds

    def look(self) -> None:
        """Note which cards are missed, and which are back."""
        try:
            found = self._look()
        except CardsUnknown as error:
            _log.warning("cards_not_seen", reason=error.message)
            return
        answering = {gpu.pin for gpu in found.gpus}
        for name, place in self._places.items():
            if name in self._lost_before:
                continue  # It can be used again only after a restart of this process.
            was_lost = self.is_lost(name)
            has_card = place.cuda_visible_devices in answering
            self._missed[name] = 0 if has_card else self._missed.get(name, 0) + 1
            if self.is_lost(name) != was_lost:
                event = "card_found_again" if was_lost else "card_lost"
                level = _log.info if was_lost else _log.error
                level(event, worker=name, card=place.cuda_visible_devices, name=place.device_name)

    def show(self) -> None:
        """Report each lost card to the gateway."""
        for name, place in self._places.items():
            if self.is_lost(name):
                try:
                    self._registry.beat(_as_lost(place))
                except DatabaseUnavailable:
                    return


def _as_lost(place: WorkerConfig) -> WorkerInfo:
    return WorkerInfo(
        name=place.worker,
        host=socket.gethostname(),
        pid=os.getpid(),
        device=place.device,
        device_name=place.device_name,
        vram_bytes=place.vram_bytes,
        engines=list(place.engines),
        resident_engine=None,
        state=LOST,
        model_loads=0,
    )
