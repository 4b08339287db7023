"""What the launcher says on the terminal."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from local.part import Part

_console = Console(highlight=False, soft_wrap=True)


def say(line: str) -> None:
    _console.print(line, markup=False)


def print_addresses(parts: Sequence[Part]) -> None:
    """Print one table of who listens where and writes which log, the gateway first."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for heading in ("part", "address", "log"):
        table.add_column(heading, no_wrap=True, overflow="fold")
    shown = [part for part in reversed(parts) if not part.runs_once]
    for part in shown:
        table.add_row(part.name, part.address, _short(part.log))
    width = max(_console.measure(table).maximum, 1)
    say("")
    _console.print(table, width=width)
    say("")
    _console.print(f"[bold green]ready[/]: {shown[0].address}")
    say("`make demo` makes a first clip; Ctrl-C stops everything")


def _short(path: Path) -> str:
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)
