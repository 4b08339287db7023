"""The memory that request bodies may hold, counted in bytes for the whole process."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from shared.errors import Busy

ROOM_BYTES: Final = 256 * 1024 * 1024
"""Eight of the largest bodies; a phone's photo has a tenth of one."""


class Room:
    """Memory for bodies that have arrived whole; those on their way lie in files.

    A body in JSON takes about four times its own size while it is read, which is not counted.
    """

    def __init__(self, max_bytes: int) -> None:
        self.free_bytes = max_bytes

    @contextmanager
    def share(self) -> Iterator["Share"]:
        """Yield a share that is empty, and give back what it grew to."""
        share = Share(self._take)
        try:
            yield share
        finally:
            self.free_bytes += share.bytes

    def _take(self, count: int) -> None:
        if count > self.free_bytes:
            raise Busy("too many large requests are in the works; try again")
        self.free_bytes -= count


class Share:
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
