"""Only one start at a time chooses its ports, because two would find the same usual ports free."""

import contextlib
import fcntl
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Final, Self

LONGEST_SECONDS: Final = 60.0
"""A start that was stopped in the middle delays other starts no longer than this."""
PAUSE_SECONDS: Final = 0.05


class Turn:
    """This user's right to choose ports, held until the ports are open."""

    def __init__(self, say: Callable[[str], None], is_given_up: Callable[[], bool]) -> None:
        self._say = say
        self._is_given_up = is_given_up
        self._lock: int | None = None

    def __enter__(self) -> Self:
        # If there can be no such file, continue without the lock.
        with contextlib.suppress(OSError):
            self._lock = os.open(_path(), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
            self._wait(self._lock)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.end()

    @property
    def is_held(self) -> bool:
        return self._lock is not None

    def end(self) -> None:
        """Let the next start choose."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _wait(self, lock: int) -> None:
        if _is_taken(lock):
            return
        self._say("waiting for another start to open its ports")
        ends_at = time.monotonic() + LONGEST_SECONDS
        while time.monotonic() < ends_at and not self._is_given_up() and not _is_taken(lock):
            time.sleep(PAUSE_SECONDS)


def _is_taken(lock: int) -> bool:
    """Take the lock, which the system drops however this process ends; say whether we have it."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _path() -> Path:
    return Path(tempfile.gettempdir(), f"stillreel-ports-{os.geteuid()}.lock")
