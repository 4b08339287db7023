"""A file that holds secrets: its owner's alone, and whole or not there."""

import os
from pathlib import Path


def write_private(path: Path, text: str) -> None:
    """Write the file whole or not at all, mode 0600 from its first byte on."""
    draft = path.with_name(f"{path.name}.new")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


def read_private(path: Path) -> str:
    """Return the file's text; "" where there is none, or one that others may have read."""
    try:
        if path.stat().st_mode & 0o077:
            return ""
        return path.read_text(errors="replace")
    except FileNotFoundError:
        return ""


def keep_private(path: Path, text: str) -> None:
    """See to it that the file says this; a full disk does not matter where it does already."""
    if read_private(path) != text:
        write_private(path, text)
