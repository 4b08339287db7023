"""How many streams may be open at once: in all, and for one caller."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from shared.errors import Busy, TooManyStreams

WAIT_SECONDS = 10
"""When to try again; a stream that ends frees its slot at once."""


class StreamSlots:
    """Belongs to one event loop."""

    def __init__(self, *, each: int, most: int) -> None:
        """`each` is the limit of one caller, `most` that of all callers together."""
        self._each = each
        self._most = most
        self._open: Counter[str] = Counter()

    @contextmanager
    def hold(self, caller: str) -> Iterator[None]:
        """Hold a slot.

        Raises:
            TooManyStreams: the caller has reached its limit.
            Busy: this gateway has no free stream.
        """
        if self._open[caller] >= self._each:
            raise TooManyStreams(
                f"you have {self._each} event streams open, which is the limit; close one, or"
                " follow all your jobs with one stream of /v1/events",
                retry_after_seconds=WAIT_SECONDS,
            )
        if self._open.total() >= self._most:
            raise Busy("this gateway has no free event stream; try again")
        self._open[caller] += 1
        try:
            yield
        finally:
            self._open[caller] -= 1
            if not self._open[caller]:
                del self._open[caller]
