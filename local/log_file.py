"""The log of a part, kept from growing without end while the part writes it."""

import contextlib
import os
from pathlib import Path
from typing import Final

LOG_BYTES: Final = 10_000_000
"""One that is larger moves to `.log.1`, of which the newest so many bytes are kept."""

CHUNK_BYTES: Final = 1 << 20


def rotate(log: Path, most_bytes: int = LOG_BYTES) -> None:
    """Move what the log holds to `.log.1` where it is too large.

    The part goes on writing into the same open file, so that is emptied, not renamed: what it
    writes between the last look and the emptying is lost, some microseconds' worth. On a full
    disk the log is emptied all the same.
    """
    try:
        if log.stat().st_size <= most_bytes:
            return
    except OSError:
        return  # Not there yet, or a folder that has just been taken away.
    earlier = log.with_suffix(".log.1")
    with contextlib.suppress(OSError):
        earlier.unlink(missing_ok=True)
        _copy_end(log, earlier, most_bytes)
    with contextlib.suppress(OSError):
        os.truncate(log, 0)


def _copy_end(log: Path, earlier: Path, most_bytes: int) -> None:
    number = os.open(earlier, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with log.open("rb") as source, os.fdopen(number, "wb") as target:
        source.seek(-most_bytes, os.SEEK_END)
        left = most_bytes - len(source.readline())  # It begins in the middle of a line.
        while left > 0 and (chunk := source.read(min(left, CHUNK_BYTES))):
            left -= target.write(chunk)
