"""The memory that request bodies may hold, counted in bytes for the whole process."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from shared.errors import Busy

BODY_MEMORY_BYTES: Final = 256 * 1024 * 1024
"""Eight of the largest bodies; a phone's photo has a tenth of one."""


class MemoryBudget:
    """Memory for bodies that have arrived whole; those on their way lie in files.

    A body in JSON takes about four times its own size while it is read, which is not counted.
    """

    def __init__(self, max_bytes: int) -> None:
        self.free_bytes = max_bytes

    @contextmanager
    def reserve(self) -> Iterator["Reservation"]:
        """Yield a share that is empty, and give back what it grew to."""
        reservation = Reservation(self._take)
        try:
            yield reservation
        finally:
            self.free_bytes += reservation.bytes

    def _take(self, count: int) -> None:
        if count > self.free_bytes:
            raise Busy("too many large requests are in the works; try again")
        self.free_bytes -= count


class Reservation:
    """What one request holds of the room."""

    def __init__(self, take: Callable[[int], None]) -> None:
        self._take = take
        self.bytes = 0

    def grow(self, count: int) -> None:
        """Take more.

        Raises:
            Busy: others hold too much.
        """
        self._take(count)
        self.bytes += count
