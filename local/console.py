"""The launcher's output on the terminal, and whether anybody can still read it."""

import os
import select
import sys
from collections.abc import Sequence
from pathlib import Path

from local.processes.process import Part


class Console:
    """Standard output, which may disappear: a closed terminal, or a pipe that nobody reads."""

    def __init__(self) -> None:
        self._is_gone = False

    def say(self, line: str) -> None:
        """Print the line; errors are ignored, because the parts must still be stopped."""
        try:
            print(self._printable(line), flush=True)
        except OSError:
            self._note_failure()

    def _printable(self, line: str) -> str:
        """Return the line with escapes for what this terminal's encoding lacks."""
        encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
        return line.encode(encoding, "backslashreplace").decode(encoding)

    def is_gone(self) -> bool:
        """Say whether nobody can read the output; a full disk does not count."""
        if not self._is_gone and sys.stdout is not None:
            look = select.poll()
            # poll() reports an error or hangup whatever events are asked for.
            look.register(sys.stdout.fileno(), 0)
            self._is_gone = bool(look.poll(0))
        return self._is_gone

    def _note_failure(self) -> None:
        if self.is_gone():
            # Later output is discarded, also without an error at the very end.
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, sys.stdout.fileno())
            os.close(nowhere)


console = Console()
say = console.say


def print_addresses(parts: Sequence[Part]) -> None:
    """Print one table of addresses and log files, the gateway first."""
    shown = [part for part in reversed(parts) if not part.runs_once]
    rows = [("part", "address", "log")]
    rows += [(part.name, part.address or "-", _short(part.log)) for part in shown]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
    rule = "-" * max(map(len, lines))
    say("\n".join(["", lines[0], rule, *lines[1:], ""]))
    say(f"{_bold('ready')}: {shown[0].address}")
    say("`make demo` makes a first clip; Ctrl-C stops everything")


def _bold(text: str) -> str:
    return f"\033[1;32m{text}\033[0m" if sys.stdout and sys.stdout.isatty() else text


def _short(path: Path) -> str:
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
