"""The manifest of a folder of weights: each file with its size, its hash, and its origin."""

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from worker.download.digest import sha256_of

NAME: Final = "weights.json"
FORMAT: Final = 1


@dataclass(frozen=True)
class Origin:
    """One repository, at the commit that was fetched; "" if its source names none."""

    source: str
    repository: str
    revision: str
    commit: str


@dataclass(frozen=True)
class KeptFile:
    """A file in its place; `key` and `source_size` are those of the file that it was made from."""

    size: int
    sha256: str
    key: str
    source_size: int
    converted: str | None = None


@dataclass(frozen=True)
class Manifest:
    """A folder's files; `planned` has path -> bytes of all files that the complete folder has."""

    engine: str
    origins: tuple[Origin, ...]
    planned: Mapping[str, int]
    files: Mapping[str, KeptFile] = field(default_factory=dict)
    is_whole: bool = False

    @property
    def total_bytes(self) -> int:
        return sum(self.planned.values())

    @property
    def fingerprint(self) -> str:
        """Return twelve letters that identify the content, for weights without a commit."""
        named = "".join(f"{path}\0{kept.key}\0" for path, kept in sorted(self.files.items()))
        return sha256(named.encode()).hexdigest()[:12]

    def with_file(self, path: str, kept: KeptFile) -> "Manifest":
        return replace(self, files={**self.files, path: kept})

    def done_bytes(self, folder: Path) -> int:
        """Return how many of the planned bytes are in the folder, including parts of files."""
        done = sum(self.files[path].source_size for path in self.planned if path in self.files)
        for path in self.planned:
            if path not in self.files:
                place = folder / path
                done += sum(
                    max(0, _size(part)) for part in place.parent.glob(f".{place.name}.*.part")
                )
        return min(done, self.total_bytes)

    def is_intact(self, folder: Path) -> bool:
        """Say whether its files are all there with their sizes; quick, because it reads none."""
        return self.is_whole and all(
            _size(folder / path) == kept.size for path, kept in self.files.items()
        )

    def without(self, paths: Iterable[str]) -> "Manifest":
        """Return the manifest without these files; it is incomplete if a file was removed."""
        lost = set(paths)
        files = {path: kept for path, kept in self.files.items() if path not in lost}
        return replace(self, files=files, is_whole=self.is_whole and not lost)

    def faults(self, folder: Path) -> Iterator[tuple[str, str]]:
        """Read all files, and yield each that differs from its download, with a sentence."""
        for path, kept in sorted(self.files.items()):
            place = folder / path
            if not place.is_file():
                yield path, f"{path} is not there"
            elif (found := sha256_of(place)) != kept.sha256:
                yield path, f"{path} has changed: its sha256 is {found}, and was {kept.sha256}"
        for path in sorted(set(self.planned) - set(self.files)):
            yield path, f"{path} was never fetched to its end"


def read_manifest(folder: Path) -> Manifest | None:
    """Return the folder's manifest; None if there is none that can be read."""
    try:
        given = json.loads((folder / NAME).read_text(encoding="utf-8"))
        return _manifest(given) if given["format"] == FORMAT else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def is_foreign(folder: Path) -> bool:
    """Say whether the folder has weights that no pull put there."""
    return not (folder / NAME).exists() and any(folder.glob("*/*.safetensors"))


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Replace the folder's manifest in one step."""
    folder.mkdir(parents=True, exist_ok=True)
    fresh = folder / f".{NAME}.new"
    with fresh.open("w", encoding="utf-8") as file:
        json.dump({"format": FORMAT, **asdict(manifest)}, file, indent=1)
        if manifest.is_whole:  # Before that, a lost manifest only means that a file is read again.
            file.flush()
            os.fsync(file.fileno())
    fresh.replace(folder / NAME)


def _manifest(given: Mapping[str, Any]) -> Manifest:
    return Manifest(
        engine=str(given["engine"]),
        origins=tuple(Origin(**origin) for origin in given["origins"]),
        planned={str(path): int(size) for path, size in given["planned"].items()},
        files={str(path): KeptFile(**kept) for path, kept in given["files"].items()},
        is_whole=given["is_whole"] is True,
    )


def _size(path: Path) -> int:
    """Return the file's size; -1 if there is none."""
    try:
        return path.stat().st_size
    except OSError:
        return -1
