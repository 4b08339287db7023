"""The certificates of the local store as files of the data folder, drawn once and renewed."""

from dataclasses import astuple
from pathlib import Path
from typing import Final

from local.private_file import write_private
from shared.certificates import Certificates

AUTHORITY: Final = "authority.pem"
AUTHORITY_KEY: Final = "authority.key"
PAIR: Final = "store.pem"
FILES: Final = (AUTHORITY, AUTHORITY_KEY, PAIR)


def keep_certificates(folder: Path, *, is_running: bool = False) -> None:
    """See to it that the folder holds certificates that are whole, ours alone, and last.

    What is missing, half-written, damaged, near its end or readable by others is drawn anew.

    Args:
        is_running: the store runs: it takes a new certificate, but no other authority.
    """
    folder.mkdir(mode=0o700, exist_ok=True)
    found = Certificates(*(_text(folder / name) for name in FILES))
    kept = found.renewed(keep_authority=is_running)
    texts = zip(FILES, astuple(kept), astuple(found), strict=True)
    for name, text, old in texts:
        if text != old:
            write_private(folder / name, text)


def _text(path: Path) -> str:
    """Return the file's text, "" where there is none, or one that others may have read."""
    try:
        if path.stat().st_mode & 0o077:
            return ""
        return path.read_text(encoding="ascii", errors="replace")
    except FileNotFoundError:
        return ""
