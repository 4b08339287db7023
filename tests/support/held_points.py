"""Threads of real processes that stand still at crash points until a test lets them go."""

from pathlib import Path

from shared.crashpoints import HELD, HOLD_VARIABLE, POINTS, REMOTE
from tests.support.processes import until

VARIABLE = HOLD_VARIABLE


class HeldPoints:
    """Asks for threads at points, in a folder that processes have in `VARIABLE`."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.folder = folder
        self._asked = 0

    def ask(self, point: str, threads: int = 1) -> list[Path]:
        """Make the next threads stop at this point; return the files that `wait` needs."""
        assert point in (*POINTS, *REMOTE), point
        asked = []
        for _ in range(threads):
            self._asked += 1
            asked.append(self.folder / f"{point}@{self._asked}")
            asked[-1].touch()
        return asked

    def wait(self, asked: list[Path], what: str) -> None:
        """Return once a thread has stopped for each file."""
        until(lambda: all(Path(f"{each}{HELD}").exists() for each in asked), what)

    def let_go(self) -> None:
        """Let all threads continue, and ask for no more."""
        # Files that no thread has taken are removed first, so that no other thread can stop then.
        for pattern in ("*@*[0-9]", "*"):
            for path in self.folder.glob(pattern):
                path.unlink(missing_ok=True)
