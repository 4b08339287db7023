"""The boxes of AVIF and HEIC files (ISO/IEC 23008-12), as far as an image's look needs them."""

import struct
from collections.abc import Iterator
from fractions import Fraction
from typing import Final

from api.images.colour.space import Cicp

MAX_BOXES: Final = 4096
"""In one box; an image of tiles has at most two thousand properties."""

MAX_ASSOCIATIONS: Final = 65_536


Property = tuple[bytes, memoryview]
"""The name and the content of a box that describes an image."""

Area = tuple[int, int, int, int]
"""Left, top, right and bottom, in pixels."""


def cicp_of(body: bytes) -> Cicp | None:
    """Return the code points of the image that a file shows first, if it has them."""
    try:
        own, others = _properties(memoryview(body))
    except (IndexError, ValueError):
        return None  # The file is cut or malformed; the decoder judges it.
    told = [cicp for cicp in map(_nclx, own) if cicp is not None]
    if told:
        return told[0]
    # In an image of tiles the colours may be with the tiles.
    of_tiles = {cicp for cicp in map(_nclx, others) if cicp is not None}
    return of_tiles.pop() if len(of_tiles) == 1 else None


def aperture_of(body: bytes, size: tuple[int, int]) -> Area | None:
    """Return the part of the first image that is to be shown (`clap`), before it is turned.

    None if all of it is, or if the part is none that such a file may have.
    """
    try:
        own, _ = _properties(memoryview(body))
        claps = [struct.unpack(">IIIIiIiI", content) for name, content in own if name == b"clap"]
        if not claps:
            return None
        width, height, x, y = (Fraction(*claps[0][at : at + 2]) for at in range(0, 8, 2))
    except (IndexError, ValueError, ZeroDivisionError, struct.error):
        return None
    left, top = (size[0] - width) / 2 + x, (size[1] - height) / 2 + y
    area = (left, top, left + width, top + height)
    is_inside = 0 <= left < area[2] <= size[0] and 0 <= top < area[3] <= size[1]
    if not is_inside or any(edge.denominator != 1 for edge in area):
        return None
    return int(left), int(top), int(area[2]), int(area[3])


def _properties(body: memoryview) -> tuple[list[Property], list[Property]]:
    """Return the properties of the image that is shown first, and all of the file."""
    meta = _first(body, b"meta")
    if meta is None:
        return [], []
    meta = meta[4:]
    properties = _first(meta, b"iprp")
    container = None if properties is None else _first(properties, b"ipco")
    if properties is None or container is None:
        return [], []
    every = [*_boxes(container)]
    primary = _primary(meta)
    own = [
        every[number - 1]
        for name, content in _boxes(properties)
        if name == b"ipma"
        for item, number in _associations(content)
        if item == primary and 0 < number <= len(every)
    ]
    return own, every


def _boxes(content: memoryview) -> Iterator[tuple[bytes, memoryview]]:
    at = 0
    for _ in range(MAX_BOXES):
        if at + 8 > len(content):
            return
        size, head = int.from_bytes(content[at : at + 4], "big"), 8
        name = bytes(content[at + 4 : at + 8])
        if size == 1:
            size, head = int.from_bytes(content[at + 8 : at + 16], "big"), 16
        elif size == 0:
            size = len(content) - at
        if size < head:
            return
        yield name, content[at + head : at + size]
        at += size


def _first(content: memoryview, wanted: bytes) -> memoryview | None:
    return next((inner for name, inner in _boxes(content) if name == wanted), None)


def _nclx(told: Property) -> Cicp | None:
    name, content = told
    if name != b"colr" or bytes(content[:4]) != b"nclx" or len(content) < 8:
        return None
    return Cicp(int.from_bytes(content[4:6], "big"), int.from_bytes(content[6:8], "big"))


def _primary(meta: memoryview) -> int | None:
    content = _first(meta, b"pitm")
    if content is None:
        return None
    return int.from_bytes(content[4 : 6 if content[0] == 0 else 8], "big")


def _associations(content: memoryview) -> Iterator[tuple[int, int]]:
    """Yield the number of an item and of a property that it has, counted from 1."""
    id_bytes = 2 if content[0] == 0 else 4
    index_bytes = 2 if content[3] & 1 else 1
    at, left = 8, MAX_ASSOCIATIONS
    for _ in range(min(int.from_bytes(content[4:8], "big"), MAX_ASSOCIATIONS)):
        item = int.from_bytes(content[at : at + id_bytes], "big")
        count = content[at + id_bytes]
        at += id_bytes + 1
        left -= count
        if left < 0:
            return
        for _ in range(count):
            index = int.from_bytes(content[at : at + index_bytes], "big")
            at += index_bytes
            yield item, index & (0x7FFF if index_bytes == 2 else 0x7F)
