"""Programs that come in wheels."""

from importlib.metadata import PackageNotFoundError, files, version
from pathlib import Path

from local.processes.process import CannotStart


def packaged(distribution: str, ending: str) -> str:
    """Return an installed wheel's one file whose path ends so, without importing the wheel.

    Raises:
        CannotStart: the wheel is not installed, so none exists for this machine.
    """
    try:
        found = [path for path in files(distribution) or () if str(path).endswith(ending)]
    except PackageNotFoundError:
        found = []
    if len(found) != 1:
        raise _missing(distribution)
    return str(Path(str(found[0].locate())).resolve())


def packaged_version(distribution: str) -> str:
    """Return the version of an installed wheel.

    Raises:
        CannotStart: as `packaged`.
    """
    try:
        return version(distribution)
    except PackageNotFoundError:
        raise _missing(distribution) from None


def _missing(distribution: str) -> CannotStart:
    return CannotStart(
        f"there is no {distribution} wheel for this machine; use docker compose instead"
    )
