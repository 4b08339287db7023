"""The hashes that identify a file."""

import hashlib
from pathlib import Path
from typing import Final

CHUNK_BYTES: Final = 1024 * 1024


class Digest:
    """The sha256 of the bytes it gets, and git's hash of a file of `size` bytes."""

    def __init__(self, size: int) -> None:
        self._sha256 = hashlib.sha256()
        # git names files by SHA-1; the hub lists this hash for small files.
        self._git = hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)

    def update(self, chunk: bytes) -> None:
        self._sha256.update(chunk)
        self._git.update(chunk)

    @property
    def sha256(self) -> str:
        return self._sha256.hexdigest()

    def is_of(self, *, sha256: str | None, git_sha1: str | None) -> bool:
        """Say whether this is the content with that hash."""
        if sha256 is not None:
            return self.sha256 == sha256
        return self._git.hexdigest() == git_sha1


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
