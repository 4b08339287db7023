"""The certificates of the local store as files of the data folder, drawn once and renewed."""

from dataclasses import astuple
from pathlib import Path
from typing import Final

from local.private_file import keep_private, read_private
from shared.certificates import Certificates

AUTHORITY: Final = "authority.pem"
AUTHORITY_KEY: Final = "authority.key"
PAIR: Final = "store.pem"
FILES: Final = (AUTHORITY, AUTHORITY_KEY, PAIR)


def keep_certificates(folder: Path, *, is_running: bool = False) -> Certificates:
    """Return certificates from the folder: complete, readable only by us, and valid for long.

    Certificates that are missing, half-written, damaged, near their end or readable by others are
    drawn again.

    Args:
        is_running: the store runs; it accepts a new certificate, but no other authority.
    """
    folder.mkdir(mode=0o700, exist_ok=True)
    found = Certificates(*(read_private(folder / name) for name in FILES))
    kept = found.renewed(keep_authority=is_running)
    for name, text in zip(FILES, astuple(kept), strict=True):
        if text:
            keep_private(folder / name, text)
    return kept
