"""Which photos of a folder need a clip, and the path of each clip."""

import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Self

from stillreel.command.fields import UsageError
from stillreel.command.ledger import Entry, Ledger

SUFFIXES: Final = frozenset(
    {".jpg", ".jpeg", ".png", ".webp", ".heic", ".heif", ".avif", ".tif", ".tiff", ".bmp"}
)
MOST_NAMED: Final = 5


@dataclass(frozen=True)
class Item:
    """One photo and the clip it becomes; `photo` is its name within the folder."""

    photo: str
    source: Path
    clip: Path
    asked: str
    turn: int
    is_done: bool

    def key(self, ledger: Ledger) -> str:
        """Return the Idempotency-Key of this turn, which a second run after a kill sends again."""
        said = f"{ledger.identity}\0{self.photo}\0{self.asked}\0{self.turn}"
        return f"batch-{hashlib.sha256(said.encode()).hexdigest()[:40]}"

    def next_turn(self) -> Self:
        return replace(self, turn=self.turn + 1)


def make_plan(
    folder: Path,
    clips: Path,
    pattern: str | None,
    said: Mapping[str, Any],
    ledger: Ledger,
    *,
    may_replace: bool,
) -> list[Item]:
    """Return an item for each photo, in order of their names.

    Args:
        said: everything of the request except the photo.
        may_replace: whether a clip that was made with other settings may be replaced.

    Raises:
        UsageError: there is no photo, or a file would be replaced without permission.
    """
    photos = find_photos(folder, clips, pattern)
    shared = Counter(_stem(photo) for photo in photos)
    items, strangers = [], []
    for photo in photos:
        name = photo.relative_to(folder).as_posix()
        entry = ledger.of(name)
        clip = f"{name}.mp4" if shared[_stem(photo)] > 1 else f"{_without_suffix(name)}.mp4"
        asked = fingerprint(photo, said)
        is_ours = entry is not None and entry.asked == asked
        target = clips / (entry.clip if entry is not None and is_ours else clip)
        if not is_ours and target.exists():
            strangers.append(str(target))
        items.append(_item(name, photo, target, asked, entry if is_ours else None))
    if strangers and not may_replace:
        named = ", ".join(strangers[:MOST_NAMED])
        more = len(strangers) - MOST_NAMED
        raise UsageError(
            f"{named}{f' and {more} more' if more > 0 else ''} would be replaced, but were made"
            " with other settings or by somebody else; choose another folder with -o, or add"
            " --replace"
        )
    return items


def find_photos(folder: Path, clips: Path, pattern: str | None) -> list[Path]:
    """Return the photos of a folder, without those among the clips.

    Raises:
        UsageError: there is no such folder, or nothing in it.
    """
    if not folder.is_dir():
        raise UsageError(f"there is no folder {folder}")
    try:
        found = sorted(path for path in folder.glob(pattern or "*") if path.is_file())
    except (NotImplementedError, ValueError) as error:
        raise UsageError(
            f"--glob {pattern!r} is not a pattern within a folder: {error}"
        ) from error
    photos = [
        path
        for path in found
        if not path.is_relative_to(clips)
        and not path.name.startswith(".")
        and (pattern is not None or path.suffix.lower() in SUFFIXES)
    ]
    if not photos:
        raise UsageError(f"{folder} has no {f'file {pattern}' if pattern else 'photo'}")
    return photos


def fingerprint(photo: Path, said: Mapping[str, Any]) -> str:
    """Return a hash of a photo's content and the request together."""
    with photo.open("rb") as file:
        content = hashlib.file_digest(file, "sha256").hexdigest()
    return hashlib.sha256(json.dumps([content, said], sort_keys=True).encode()).hexdigest()


def _item(name: str, photo: Path, clip: Path, asked: str, entry: Entry | None) -> Item:
    if entry is None:
        return Item(name, photo, clip, asked, turn=0, is_done=False)
    is_done = entry.status == "succeeded" and clip.is_file() and clip.stat().st_size == entry.bytes
    has_failed = entry.status in ("failed", "canceled")
    return Item(name, photo, clip, asked, turn=entry.turn + has_failed, is_done=is_done)


def _stem(photo: Path) -> str:
    return photo.with_suffix("").as_posix().lower()


def _without_suffix(name: str) -> str:
    return Path(name).with_suffix("").as_posix()
