"""What the launcher says on the terminal."""

import sys
from collections.abc import Sequence
from pathlib import Path

from local.processes.process import Part


def say(line: str) -> None:
    print(line, flush=True)


def print_addresses(parts: Sequence[Part]) -> None:
    """Print one table of who listens where and writes which log, the gateway first."""
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
    return f"\033[1;32m{text}\033[0m" if sys.stdout.isatty() else text


def _short(path: Path) -> str:
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
