"""Properties for the images of AVIF and HEIC files, as programs that crop and turn write them."""

import struct
from collections.abc import Iterator, Sequence
from typing import Final

_META_HEAD: Final = 4
"""Bytes of a box `meta` before its inner boxes."""


def box(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", 8 + len(content)) + name + content


def clap(width: int, height: int, x: int, y: int) -> bytes:
    """Return the part that is to be shown; `x` and `y` move its middle away from the image's."""
    return box(b"clap", struct.pack(">IIIIiIiI", width, 1, height, 1, x, 1, y, 1))


def irot(quarters: int) -> bytes:
    """Return turns to the left."""
    return box(b"irot", bytes([quarters]))


def with_properties(body: bytes, *properties: bytes) -> bytes:
    """Return a file of one image, as Pillow writes it, with more properties."""
    meta = _find(body, 0, len(body), b"meta")
    inner = (meta[0] + 8 + _META_HEAD, meta[1])
    iprp = _find(body, *inner, b"iprp")
    ipco = _find(body, iprp[0] + 8, iprp[1], b"ipco")
    ipma = _find(body, iprp[0] + 8, iprp[1], b"ipma")
    known = len([*_boxes(body, ipco[0] + 8, ipco[1])])
    more = [
        0x80 | known + 1 + index for index in range(len(properties))
    ]  # All must be understood.
    told = bytearray(body[ipma[0] : ipma[1]] + bytes(more))
    told[18] += len(more)  # Of the first and only image.
    told[:4] = struct.pack(">I", len(told))
    content = body[ipco[0] : ipco[1]] + b"".join(properties)
    grown = sum(map(len, properties)) + len(more)
    changed = bytearray(
        body[: ipco[0]] + struct.pack(">I", len(content)) + content[4:] + told + body[ipma[1] :]
    )
    for start, end in (meta, iprp):
        changed[start : start + 4] = struct.pack(">I", end - start + grown)
    _move(changed, _find(body, *inner, b"iloc")[0], by=grown)
    return bytes(changed)


def _move(body: bytearray, iloc: int, *, by: int) -> None:
    """Record that the bytes of the only image are `by` bytes further behind."""
    assert (body[iloc + 8], body[iloc + 12], body[iloc + 13]) == (0, 0x44, 0), "another iloc"
    at = iloc + 22  # Behind the counts of images and extents, the id, and the source of data.
    (offset,) = struct.unpack_from(">I", body, at)
    struct.pack_into(">I", body, at, offset + by)


def _boxes(body: bytes, at: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    while at < end:
        size = int.from_bytes(body[at : at + 4], "big")
        yield bytes(body[at + 4 : at + 8]), at, at + size
        at += size


def _find(body: bytes, at: int, end: int, wanted: bytes) -> Sequence[int]:
    return next((start, stop) for name, start, stop in _boxes(body, at, end) if name == wanted)
