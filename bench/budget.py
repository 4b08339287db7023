"""The time a bench may take, and what becomes of an arm that fails or takes too long."""

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
    """When the bench has to be over, by the monotonic clock, and how long one arm may take."""

    ends: float
    arm_seconds: float

    def has(self, seconds: float) -> bool:
        return time.monotonic() + seconds < self.ends

    def part(self, share: float) -> "Budget":
        """Return one that ends when this share of the time from now on is over."""
        now = time.monotonic()
        left = self.ends - now
        return Budget(now + left * share if left > 0 else self.ends, self.arm_seconds)

    @property
    def next_seconds(self) -> float:
        """Return how long what comes next may take."""
        return max(0.01, min(self.arm_seconds, self.ends - time.monotonic()))


def say(words: str) -> None:
    """Tell whoever waits, on stderr: stdout is the report's."""
    minutes, seconds = divmod(int(time.monotonic() - STARTED), 60)
    sys.stderr.write(f"{minutes:3}:{seconds:02} {words}\n")
    sys.stderr.flush()


def attempt(
    what: str, work: Callable[[], T], *, seconds: float, on_lost: Callable[[str], None]
) -> T | None:
    """Return what the work gives; None where it fails, and the bench goes on without it.

    Args:
        on_lost: told why, in a line for the report. The whole of it goes to stderr.
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
    """Raise TooSlow in the block once it has taken that long; only for the main thread.

    Torch's compiler and a hung kernel's wait cannot be told to stop in another way; one that
    never comes back to Python does not stop even so.
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
        if left:  # Another's alarm, such as a test's limit, still has to come.
            signal.setitimer(signal.ITIMER_REAL, max(0.01, left - time.monotonic() + began))
