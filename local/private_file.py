"""A file with secrets: readable only by its owner, and complete or missing."""

import os
from pathlib import Path


def write_private(path: Path, text: str) -> None:
    """Write the file completely or not at all, mode 0600 from its first byte on."""
    draft = path.with_name(f"{path.name}.new")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


def read_private(path: Path) -> str:
    """Return the file's text; "" if there is none, or others may have read it."""
    try:
        if path.stat().st_mode & 0o077:
            return ""
        return path.read_text(errors="replace")
    except FileNotFoundError:
        return ""


def keep_private(path: Path, text: str) -> None:
    """Make the file have this content; a full disk does not matter if it already has it."""
    if read_private(path) != text:
        write_private(path, text)
