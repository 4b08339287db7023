"""Room for connections: each listener holds one descriptor."""

import resource
from contextlib import suppress
from typing import Final

KEPT_FREE: Final = 256
"""For the pools, the decoders, files and requests that are no streams."""


def raise_limit() -> None:
    """Take as many descriptors as the system lets a process have; the usual 1024 are too few."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        # Where the hard limit is beyond what the kernel takes, the soft one stays.
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def room_for_streams() -> int:
    """Return how many streams fit beside everything else."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(1, soft - KEPT_FREE) if soft != resource.RLIM_INFINITY else 1_000_000
