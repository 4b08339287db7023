"""How many remote clips one process decodes at once: as many as it has cores."""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

WAIT_SECONDS: Final = 1.0

_turns: Final = threading.BoundedSemaphore(os.cpu_count() or 1)


@contextmanager
def decoding_turn(on_wait: Callable[[], None]) -> Iterator[None]:
    """Hold one of the process' turns; `on_wait` is called in each second of the wait."""
    on_wait()
    while not _turns.acquire(timeout=WAIT_SECONDS):
        on_wait()
    try:
        yield
    finally:
        _turns.release()
