"""What keeps the disk under a folder from taking more files."""

import os
from pathlib import Path
from typing import Final

LEAST_FILES: Final = 64
"""With fewer inodes left, a clip and the rows about it may not all get the files they need."""


def obstacle(folder: Path, *, least_bytes: int, least_files: int = LEAST_FILES) -> str | None:
    """Return what is wrong with the disk under a folder, to follow "the disk of …"; None if fine.

    Args:
        least_bytes: free space for this user, without what is reserved for root.

    Raises:
        OSError: there is no such folder.
    """
    found = os.statvfs(folder)
    if found.f_flag & os.ST_RDONLY:
        return "is mounted read-only; mount it for writing"
    free = found.f_bavail * found.f_frsize
    if free < least_bytes:
        return f"has {mib(free)} left, and {mib(least_bytes)} must be free"
    # Some file systems, like btrfs, make inodes as they need them, and count none.
    if found.f_files and found.f_favail < least_files:
        return f"has {found.f_favail} inodes left, and {least_files} must be free"
    return None


def mib(count: int) -> str:
    """Return a number of bytes as whole MiB."""
    return f"{count / 2**20:.0f} MiB"
