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


def _says_nothing(marker: int, segment: bytes) -> bool:
    return any(
        marker == of and segment.startswith(name) and len(segment) < shortest
        for (of, name), shortest in _SHORTEST.items()
    )
