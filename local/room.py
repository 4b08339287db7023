"""Whether the disk of the data folder has room: for a first start, for the parts, for jobs."""

from pathlib import Path
from typing import Final

from local.processes.process import CannotStart
from shared import disk

FIRST_START_BYTES: Final = 128 * 2**20
"""A folder that has made one clip was measured to hold 66 MiB; a start needs some beside it."""
FIRST_START_FILES: Final = 3000
"""The same folder held 1,580 files."""
RUN_BYTES: Final = 32 * 2**20
"""Postgres writes its log in files of 16 MiB, and ends if it cannot make the next one."""


def check_first_start(folder: Path, *, least_bytes: int = FIRST_START_BYTES) -> None:
    """Refuse to make a database that its disk has no room for.

    Raises:
        CannotStart: there is no database in the folder yet, and its disk is too full for one.
    """
    if (folder / "pg").exists():
        return  # To make room, somebody may have to delete clips, which needs a running service.
    found = disk.obstacle(folder, least_bytes=least_bytes, least_files=FIRST_START_FILES)
    if found:
        raise CannotStart(
            f"the disk of the data folder {folder} {found} for a first start; make room, or set"
            " STILLREEL_DATA_DIR to a folder on another disk"
        )


def lack_for_parts(folder: Path) -> str | None:
    """Return why no part can be expected to run on this disk now; None if there is room."""
    return _lack(folder, least_bytes=RUN_BYTES)


def lack_for_jobs(folder: Path, min_free_bytes: int) -> str | None:
    """Return why the gateway accepts no job while this disk is so full; None if there is room."""
    return _lack(folder, least_bytes=min_free_bytes)


def _lack(folder: Path, *, least_bytes: int) -> str | None:
    try:
        found = disk.obstacle(folder, least_bytes=least_bytes)
    except OSError:
        return None  # A folder that is gone is no matter of room.
    return found and f"the disk of the data folder {folder} {found}"
