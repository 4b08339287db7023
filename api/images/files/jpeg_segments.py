"""The segments of a JPEG before its image: those that Pillow would stumble over, left out.

A browser steps over stray bytes between segments, and over notes of programs that are too short
to say anything; Pillow takes either for damage.
"""

import re
from typing import Final

from api.images.scans import MAX_SEGMENTS

_MARKER: Final = re.compile(rb"\xff+[^\x00\xff]")
_STRAY_BYTES: Final = 4096
"""How far the next marker may be; a longer gap is damage."""

_START_OF_SCAN: Final = 0xDA
_BARE: Final = frozenset({0x01, *range(0xD0, 0xDA)})
_APP2: Final = 0xE2
_PROFILE: Final = b"ICC_PROFILE\0"
_PROFILE_HEAD: Final = len(_PROFILE) + 2
_SHORTEST: Final = {
    (0xE0, b"JFIF"): 7,
    (0xE2, b"ICC_PROFILE"): 14,
    (0xEE, b"Adobe"): 12,
}
"""Bytes that a note of this name has to have, to say what it is for."""


def with_plain_head(body: bytes) -> bytes:
    """Return a JPEG without what says nothing before its image; else as it was."""
    kept = [body[:2]]
    at, is_changed = 2, False
    for _ in range(MAX_SEGMENTS):
        found = _MARKER.search(body, at, at + _STRAY_BYTES)
        if found is None:
            return body
        is_changed |= found.start() != at
        marker, start = body[found.end() - 1], found.end()
        if marker == _START_OF_SCAN:
            kept.append(body[start - 2 :])
            return b"".join(kept) if is_changed else body
        size = 0 if marker in _BARE else int.from_bytes(body[start : start + 2], "big")
        at = start + size
        if _says_nothing(marker, body[start + 2 : at]):
            is_changed = True
        else:
            kept.append(body[start - 2 : at])
    return body


def profile_of(body: bytes) -> bytes | None:
    """Return the colour profile of a JPEG; None if it has none, or not all parts of it.

    Pillow overlooks one that stands behind the frame's header, and one that is there twice.
    """
    parts: dict[int, bytes] = {}
    count, at = 0, 2
    for _ in range(MAX_SEGMENTS):
        found = _MARKER.search(body, at, at + _STRAY_BYTES)
        marker = _START_OF_SCAN if found is None else body[found.end() - 1]
        if found is None or marker == _START_OF_SCAN:
            break
        start = found.end()
        at = start + (0 if marker in _BARE else int.from_bytes(body[start : start + 2], "big"))
        segment = body[start + 2 : at]
        if marker == _APP2 and segment.startswith(_PROFILE) and len(segment) > _PROFILE_HEAD:
            number, count = segment[len(_PROFILE)], segment[len(_PROFILE) + 1]
            parts.setdefault(number, segment[_PROFILE_HEAD:])
    numbers = range(1, count + 1)
    return b"".join(map(parts.__getitem__, numbers)) if [*sorted(parts)] == [*numbers] else None


def _says_nothing(marker: int, segment: bytes) -> bool:
    return any(
        marker == of and segment.startswith(name) and len(segment) < shortest
        for (of, name), shortest in _SHORTEST.items()
    )
