"""How often a JPEG makes its decoder pass over the whole image, counted before it is decoded."""

import re
from typing import Final

MAX_SEGMENTS: Final = 20_000
"""A photo with previews and profiles has some hundred segments, of at most 64 KiB."""

_MARKER: Final = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")
"""Within a scan only stuffed zeros and restarts follow a 0xFF."""

_START_OF_SCAN, _END, _BARE = 0xDA, 0xD9, frozenset({0x01, 0xD8})


def count_scans(body: bytes) -> int | None:
    """Return the number of scans of a JPEG; None if it has too many segments for a photo.

    A preview, a second image or a film in the file does not count: these are in segments, which
    are skipped, or after the end.
    """
    at, scans = 2, 0
    for _ in range(MAX_SEGMENTS):
        found = _MARKER.search(body, at)
        if found is None:
            return scans
        at, marker = found.end(), body[found.end() - 1]
        if marker == _END:
            return scans
        scans += marker == _START_OF_SCAN
        if marker not in _BARE:
            at += int.from_bytes(body[at : at + 2], "big")
    return None
