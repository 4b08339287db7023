"""Whether there is disk space for one more clip, checked before its job is accepted."""

import shutil
from pathlib import Path
from typing import Final

from shared import disk
from shared.engines.registry import OfferedEngine
from shared.errors import StorageFull, WorkersFull
from shared.settings import Settings

RETRY_SECONDS: Final = 60


def check_disk_space(offer: OfferedEngine, settings: Settings) -> None:
    """Refuse a job whose clip could not be stored, or not be made.

    Raises:
        StorageFull: DATA_DIR is this machine's, as with `make run`, and its disk is nearly full.
        WorkersFull: every worker that serves the engine says that its own disk is full.
    """
    check_disk(settings)
    least = settings.min_free_bytes
    if offer.free_bytes is not None and offer.free_bytes < least:
        raise WorkersFull(
            f"no worker for {offer.spec.name} has {disk.mib(least)} of disk left to make a clip"
            " in; try again later",
            retry_after_seconds=RETRY_SECONDS,
        )


def check_disk(settings: Settings) -> None:
    """Raise StorageFull where files are kept on this machine and its disk takes no more."""
    try:
        found = disk.obstacle(settings.data_dir, least_bytes=settings.min_free_bytes)
    except OSError:
        return  # Files are kept elsewhere.
    if found is not None:
        raise StorageFull(
            f"the disk under STILLREEL_DATA_DIR {found}; delete jobs, or make room",
            retry_after_seconds=RETRY_SECONDS,
        )


def free_bytes(folder: Path) -> int | None:
    """Return the free space around a folder; None without it, because files are elsewhere."""
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return None
