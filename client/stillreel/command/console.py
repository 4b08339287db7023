"""The output for a person, and the output for a pipe.

Results go to stdout: a table on a terminal, JSON in a pipe or with --json. Progress, questions and
errors go to stderr.
"""

import json
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text


class Screen:
    """The two streams of one run of the command."""

    def __init__(self, *, wants_json: bool = False) -> None:
        self.is_json = wants_json or not sys.stdout.isatty()
        self.out = Console(highlight=False, soft_wrap=True)
        self.err = Console(stderr=True, highlight=False, soft_wrap=True)

    @property
    def may_ask(self) -> bool:
        return sys.stdin.isatty() and sys.stderr.isatty()

    def note(self, line: str) -> None:
        """Tell a person something that is not a result."""
        self.err.print(line, markup=False)

    def error(self, line: str) -> None:
        self.err.print(f"stillreel: {line}", markup=False)

    def line(self, text: str) -> None:
        """Print one line of a result."""
        self.out.print(text, markup=False)

    def json(self, body: Any) -> None:
        sys.stdout.write(json.dumps(body, indent=2, ensure_ascii=False, default=str) + "\n")

    def json_line(self, body: Any) -> None:
        sys.stdout.write(json.dumps(body, ensure_ascii=False, default=str) + "\n")
        sys.stdout.flush()

    def table(self, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
        table = Table(box=None, pad_edge=False, header_style="bold")
        for column in columns:
            table.add_column(column, overflow="fold")
        for row in rows:
            table.add_row(*(Text("" if cell is None else str(cell)) for cell in row))
        self.out.print(table, soft_wrap=False)

    def confirms(self, question: str) -> bool:
        """Ask a person; no answer, and Ctrl-C, mean no."""
        if not self.may_ask:
            return False
        self.err.print(f"{question} [y/N] ", end="", markup=False)
        try:
            return sys.stdin.readline().strip().lower() in ("y", "yes")
        except KeyboardInterrupt:
            self.err.print()
            return False


def duration(seconds: float | None) -> str:
    """Return seconds in a form for people."""
    if seconds is None:
        return ""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    return (
        f"{minutes} min {rest:02} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
    )
