"""Steps that were given to the device, reported once it has done them; two are in flight."""

from collections import deque
from collections.abc import Callable
from typing import Final, Protocol

import torch

IN_FLIGHT: Final = 2  # Enough to keep the card busy; more would make a cancel wait longer.


class Event(Protocol):
    def synchronize(self) -> None:
        """Wait until the device has done all work before this event."""


class InFlight:
    """Steps given to the device but not yet finished there; each is reported once it is."""

    def __init__(
        self, record_event: Callable[[], Event] | None, on_finished: Callable[[int], None]
    ) -> None:
        self._record_event = record_event
        self._on_finished = on_finished
        self._waiting: deque[tuple[int, Event]] = deque()

    def launched(self, index: int) -> None:
        if self._record_event is None:
            self._on_finished(index)
            return
        self._waiting.append((index, self._record_event()))
        if len(self._waiting) >= IN_FLIGHT:
            self._finish_one()

    def drain(self) -> None:
        while self._waiting:
            self._finish_one()

    def _finish_one(self) -> None:
        index, event = self._waiting.popleft()
        event.synchronize()
        self._on_finished(index)


def event_recorder(device: torch.device) -> Callable[[], Event] | None:
    """Return a function that marks a point in the device's work; None if calls do it at once."""
    if device.type == "cpu":
        return None

    def record() -> Event:
        event: Event = torch.cuda.current_stream(device).record_event()
        return event

    return record
