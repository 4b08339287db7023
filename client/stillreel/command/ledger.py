"""A record of a batch's work, kept beside its clips so that a second run continues from there."""

import json
import os
import secrets
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from stillreel.errors import StillreelError

NAME: Final = ".stillreel-batch.jsonl"


@dataclass(frozen=True)
class Entry:
    """The last known state of a photo.

    `asked` stands for the photo's content and all fields of its clip. `turn` is how often it was
    started again: a failed job is followed by another one, a killed run is not.
    """

    photo: str
    clip: str
    asked: str
    turn: int
    job: str
    status: str
    bytes: int | None = None


class Ledger:
    """A file of lines, each with the newest state of one photo; a written line is on the disk."""

    def __init__(self, folder: Path) -> None:
        """Read the lines of earlier runs.

        Raises:
            StillreelError: another program wrote that file.
        """
        self._path = folder / NAME
        self._entries: dict[str, Entry] = {}
        self.identity = secrets.token_hex(8)
        lines = self._read()
        if not lines:
            self._append({"ledger": 1, "identity": self.identity})
            return
        try:
            self.identity = str(lines[0]["identity"])
            entries = [Entry(**line) for line in lines[1:]]
        except (KeyError, TypeError) as error:
            raise StillreelError(
                f"{self._path} is not a ledger of a batch; move it away to make all clips again"
            ) from error
        self._entries = {entry.photo: entry for entry in entries}

    def of(self, photo: str) -> Entry | None:
        return self._entries.get(photo)

    def write(self, entry: Entry) -> None:
        self._append(asdict(entry))
        self._entries[entry.photo] = entry

    def _read(self) -> list[dict[str, Any]]:
        try:
            text = self._path.read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return []
        lines = []
        for line in text.splitlines():
            try:
                lines.append(json.loads(line))
            except ValueError:
                continue  # A kill cut this line short; its photo keeps its earlier state.
        return lines

    def _append(self, line: dict[str, Any]) -> None:
        with self._path.open("ab") as file:
            # After a line that a kill cut short, this one begins on a new line.
            start = b"\n" if file.tell() else b""
            file.write(start + json.dumps(line).encode())
            file.flush()
            os.fsync(file.fileno())
