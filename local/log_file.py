"""The log of a part, limited in size while the part writes it."""

import contextlib
import os
from pathlib import Path
from typing import Final

LOG_BYTES: Final = 10_000_000
"""A larger log moves to `.log.1`, of which this many of the newest bytes are kept."""

CHUNK_BYTES: Final = 1 << 20


def rotate(log: Path, most_bytes: int = LOG_BYTES) -> None:
    """Move the content of the log to `.log.1` if it is too large.

    The part keeps writing into the same open file, so the file is emptied, not renamed. Bytes
    written between the last read and the emptying are lost, some microseconds' worth. On a full
    disk the log is emptied all the same.
    """
    try:
        if log.stat().st_size <= most_bytes:
            return
    except OSError:
        return  # The file does not exist yet, or its folder was just removed.
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
        left = most_bytes - len(source.readline())  # The kept part begins in the middle of a line.
        while left > 0 and (chunk := source.read(min(left, CHUNK_BYTES))):
            left -= target.write(chunk)
