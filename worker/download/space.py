"""Disk space for a download, checked before its first byte."""

import errno
import shutil
from pathlib import Path
from typing import Final

from shared.errors import MissingWeights

UNITS: Final = ((10**9, "GB"), (10**6, "MB"), (10**3, "kB"))
OTHERWISE: Final = "free space, or set STILLREEL_WEIGHTS_DIR to a folder on a larger disk"
FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


def check_space(name: str, folder: Path, *, needed: int, spare: int) -> None:
    """Check that the folder's disk has `needed` bytes free and `spare` beside them.

    Raises:
        MissingWeights: it has not; the message says how much is missing.
    """
    free = shutil.disk_usage(folder).free
    lacking = needed + spare - free
    if needed and lacking > 0:
        raise MissingWeights(
            f"the weights of {name} take {in_words(needed)} more, and of their disk's"
            f" {in_words(free)} that are free {in_words(spare)} are kept free:"
            f" {in_words(lacking)} are missing; {OTHERWISE}"
        )


def disk_refused(name: str, error: OSError) -> MissingWeights:
    """Return the error for a disk that refuses the weights during the download."""
    if error.errno in FULL:
        return MissingWeights(
            f"the disk was full before the weights of {name} were complete; the downloaded part"
            f" is kept: {OTHERWISE}"
        )
    return MissingWeights(
        f"the weights of {name} cannot be written ({error.strerror or type(error).__name__}): let"
        " this user write the folder that STILLREEL_WEIGHTS_DIR names, or name another"
    )


def in_words(size: int) -> str:
    """Return a number of bytes in a form for people, like 4.6 GB."""
    for unit, name in UNITS:
        if size >= unit:
            return f"{size / unit:.1f} {name}"
    return f"{size} bytes"
