"""Limits the time of a bench, and goes on without an arm that fails or takes too long."""

import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, TypeVar

T = TypeVar("T")

STARTED: Final = time.monotonic()


class TooSlow(Exception):
    """An arm took longer than an arm may."""


@dataclass
class Budget:
    """The end of the bench by the monotonic clock, and the longest time of one arm."""

    ends: float
    arm_seconds: float

    def has(self, seconds: float) -> bool:
        return time.monotonic() + seconds < self.ends

    def part(self, share: float) -> "Budget":
        """Return a budget that ends after this share of the time that is left."""
        now = time.monotonic()
        left = self.ends - now
        return Budget(now + left * share if left > 0 else self.ends, self.arm_seconds)

    @property
    def next_seconds(self) -> float:
        """Return how many seconds the next work may take."""
        return max(0.01, min(self.arm_seconds, self.ends - time.monotonic()))


def say(words: str) -> None:
    """Print progress on stderr, because the report goes to stdout."""
    minutes, seconds = divmod(int(time.monotonic() - STARTED), 60)
    sys.stderr.write(f"{minutes:3}:{seconds:02} {words}\n")
    sys.stderr.flush()


def attempt(
    what: str, work: Callable[[], T], *, seconds: float, on_lost: Callable[[str], None]
) -> T | None:
    """Return the result of the work, or None if it fails: the bench then goes on without it.

    Args:
        on_lost: called with the reason, in one line for the report. The traceback goes to stderr.
    """
    try:
        with at_most(seconds):
            return work()
    except Exception as error:
        traceback.print_exc()
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        reason = f"{type(error).__name__}: {' '.join(lines[:2])}"
    say(f"{what}: LOST, {reason}")
    on_lost(f"{what}: lost, {reason}")
    return None


@contextmanager
def at_most(seconds: float) -> Iterator[None]:
    """Raise TooSlow in the block after that time; it works in the main thread only.

    An alarm is the only way to stop torch's compiler or the wait for a hung kernel. Code that
    never returns to Python cannot be stopped by it either.
    """

    def stop(*_: Any) -> None:
        raise TooSlow(f"it took more than {seconds:.0f} s")

    began = time.monotonic()
    handler = signal.signal(signal.SIGALRM, stop)
    left, _ = signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
        if left:  # Set the alarm again that was set before, such as the limit of a test.
            signal.setitimer(signal.ITIMER_REAL, max(0.01, left - time.monotonic() + began))
