"""Official clients of other services, each installed once for an environment, beside it.

They need versions of libraries of their own.
"""

import contextlib
import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

SDKS: Final = Path(sys.prefix) / "sdks"
SECONDS: Final = 270


@contextlib.contextmanager
def installing(folder: Path, wanted: str) -> Iterator[bool]:
    """Yield whether the client must still be installed; only one process installs it."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        mark = folder / "installed"
        is_missing = not mark.exists() or mark.read_text() != wanted
        yield is_missing
        if is_missing:
            mark.write_text(wanted)


def python_with(requirement: str) -> str:
    """Return an interpreter that has the client."""
    folder = SDKS / requirement.replace("==", "-")
    python = folder / "venv" / "bin" / "python"
    with installing(folder, requirement) as is_missing:
        if is_missing:
            shutil.rmtree(folder / "venv", ignore_errors=True)
            done([sys.executable, "-m", "venv", str(folder / "venv")], folder)
            done([str(python), "-m", "pip", "install", "-q", requirement], folder)
    return str(python)


def done(command: Sequence[str], folder: Path, **env: str) -> str:
    """Run a command, which must succeed; return what it printed."""
    result = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-4000:]
    return result.stdout
