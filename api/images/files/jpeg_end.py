"""JPEG files without their last marker, or with a phone's data after the image that hides it.

Optimisers and some cameras leave the marker out. The file does not say whether all pixels are
there, so this module tests it: a decoder that has all pixels gives the same result whatever
follows; one that lacks some does not.
"""

import hashlib
import io
import re
from typing import Final

from PIL import Image

from api.images.scans import MAX_SEGMENTS

ROWS: Final = 256
END: Final = b"\xff\xd9"
_MARKER: Final = re.compile(rb"\xff+[^\x00\xff]")
_RESTARTS: Final = frozenset(range(0xD0, 0xD8))
_START_OF_SCAN, _DNL = 0xDA, 0xDC
_KNOWN: Final = frozenset({0xC4, 0xCC, 0xDA, 0xDB, _DNL, 0xDD, 0xFE, *range(0xE0, 0xF0)})
"""What may come between scans: tables, comments, segments of programs."""

_FRAMES: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_ALL_BITS: Final = (1 << 64) - 1
_PROBES: Final = (
    END,
    b"".join(b"\x35\xac\x96" * 40 + bytes([0xFF, 0xD0 + n % 8]) for n in range(64)) + END,
)
"""Two ways to continue the file: with nothing, and with noise that has restarts in it."""


def with_end(body: bytes, size: tuple[int, int]) -> bytes:
    """Return a JPEG with its end marker if all of its pixels are there, else unchanged.

    Args:
        size: the size that it may be halved to while it is decoded.
    """
    end, is_covered = _end_of_scans(body)
    if end is None or not is_covered:
        return body
    image = body[:end]
    first, second = (_look(image + probe, size) for probe in _PROBES)
    return image + END if first is not None and first == second else body


def _look(body: bytes, size: tuple[int, int]) -> bytes | None:
    """Return a digest of the image, decoded as it will be."""
    digest = hashlib.sha256()
    try:
        with Image.open(io.BytesIO(body), formats=["JPEG"]) as image:
            image.draft(None, size)
            for top in range(0, image.height, ROWS):
                rows = image.crop((0, top, image.width, min(top + ROWS, image.height)))
                digest.update(rows.tobytes())
    except Exception:  # A decoder may raise any exception; then the file is judged as it is.
        return None
    return digest.digest()


def _end_of_scans(body: bytes) -> tuple[int | None, bool]:
    """Return the end of the last scan, and whether the scans have covered every component.

    None if the file has its end marker, or no scan.
    """
    at, in_scan = 2, False
    components: dict[int, int] = {}
    for _ in range(MAX_SEGMENTS):
        found = _MARKER.search(body, at)
        if found is None:
            return (len(body) if in_scan else None), _are_covered(components)
        marker = body[found.end() - 1]
        if marker in _RESTARTS or marker == 0x01:
            at = found.end()
            continue
        if marker == 0xD9:
            return None, False
        size = int.from_bytes(body[found.end() : found.end() + 2], "big")
        segment = body[found.end() + 2 : found.end() + size]
        if in_scan and not _is_segment(marker, size, segment):
            return found.start(), _are_covered(components)
        if marker in _FRAMES:
            components |= dict.fromkeys(segment[6::3], 0)
        elif marker == _START_OF_SCAN:
            in_scan = True
            _cover(components, segment)
        at = found.end() + size
    return None, False


def _is_segment(marker: int, size: int, segment: bytes) -> bool:
    """Say whether a marker after a scan begins a segment of the image, not of a trailer."""
    return marker in _KNOWN and size >= 2 and len(segment) == size - 2


def _cover(components: dict[int, int], scan: bytes) -> None:
    """Note which coefficients of which components a scan has completed to the last bit."""
    count = scan[0] if scan else 0
    if len(scan) < 4 + 2 * count:
        return
    first, last, bits = scan[1 + 2 * count : 4 + 2 * count]
    if bits & 0x0F == 0 and first <= last < 64:
        for component in scan[1 : 1 + 2 * count : 2]:
            if component in components:
                components[component] |= ((1 << (last + 1)) - 1) ^ ((1 << first) - 1)


def _are_covered(components: dict[int, int]) -> bool:
    return bool(components) and all(bits == _ALL_BITS for bits in components.values())
