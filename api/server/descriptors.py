"""File descriptors for connections: each listener holds one."""

import resource
from contextlib import suppress
from typing import Final

KEPT_FREE: Final = 256
"""Kept for the pools, the decoders, files and requests that are not streams."""


def raise_limit() -> None:
    """Use as many descriptors as the system allows a process; the usual 1024 are too few."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        # If the hard limit is more than the kernel accepts, the soft limit stays.
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def room_for_streams() -> int:
    """Return how many streams fit beside all other uses."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(1, soft - KEPT_FREE) if soft != resource.RLIM_INFINITY else 1_000_000
