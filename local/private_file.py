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
