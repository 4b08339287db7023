"""The state of all queues, read by one thread at a time and shared by everybody who asks."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from datetime import timedelta
from typing import Final

from shared.jobs.estimates import QueueBoard

SHARE: Final = 10.0
"""It is read again after so many times as long as reading takes: short queues are exact."""

MOST_SECONDS: Final = 3.0
"""The greatest age of the board that is returned."""


class QueueSnapshot:
    """Threads get the newest board; one thread reads, and the others wait for the same read."""

    def __init__(self, read: Callable[[], QueueBoard]) -> None:
        self._read = read
        self._lock = threading.Lock()
        self._board: QueueBoard | None = None
        self._began_at = float("-inf")
        self._seconds = 0.0
        self._reading: Future[None] | None = None

    def get(self, *, at_most: float | None = None) -> QueueBoard:
        """Return the board, at most `at_most` seconds old or as old as the cost of a read allows.

        Raises:
            DatabaseUnavailable: it cannot be read now.
        """
        oldest = time.monotonic() - (self._lasts if at_most is None else at_most)
        while self._began_at < oldest:
            self._read_once()
        board = self.peek()
        assert board is not None
        return board

    def peek(self) -> QueueBoard | None:
        """Return the board of the last read, however old it is; None before the first read."""
        with self._lock:
            board, began_at = self._board, self._began_at
        if board is None:
            return None
        return board.aged(timedelta(seconds=time.monotonic() - began_at))

    def recent(self) -> QueueBoard | None:
        """Return the board unless it is older than one ever gets where somebody reads."""
        is_recent = time.monotonic() - self._began_at < MOST_SECONDS
        return self.peek() if is_recent else None

    @property
    def is_fresh(self) -> bool:
        """Say whether `get` would return the board without reading."""
        return time.monotonic() - self._began_at < self._lasts

    @property
    def _lasts(self) -> float:
        return min(MOST_SECONDS, SHARE * self._seconds)

    def _read_once(self) -> None:
        """Read, or wait for the read under way, and share its failure."""
        with self._lock:
            reading, is_mine = self._reading, self._reading is None
            if reading is None:
                reading = self._reading = Future()
        if not is_mine:
            reading.result()
            return
        began_at = time.monotonic()
        try:
            board = self._read()
        except Exception as error:
            with self._lock:
                self._reading = None
            reading.set_exception(error)
            raise
        with self._lock:
            self._board, self._began_at = board, began_at
            self._seconds = time.monotonic() - began_at
            self._reading = None
        reading.set_result(None)
