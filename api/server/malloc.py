"""Gives the memory of large bodies back to the system."""

import ctypes
from contextlib import suppress
from typing import Final

MMAP_THRESHOLD: Final = -3
ARENAS: Final = -8
LARGE_BYTES: Final = 1024 * 1024


def limit_heap_growth() -> None:
    """Make glibc keep less of the freed memory; call this before any thread starts.

    By itself glibc raises its threshold to the largest body ever freed, and keeps a heap for each
    thread: 5,000 uploads left the gateway 102 MB larger, and 29 MB with these two settings.
    Elsewhere than on glibc this does nothing.
    """
    with suppress(AttributeError, OSError):
        libc = ctypes.CDLL(None)
        libc.mallopt(MMAP_THRESHOLD, LARGE_BYTES)
        libc.mallopt(ARENAS, 2)
