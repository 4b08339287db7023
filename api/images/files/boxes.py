"""The boxes of AVIF and HEIC files (ISO/IEC 23008-12), as far as colour needs them."""

from collections.abc import Iterator
from typing import Final

from api.images.colour.space import Cicp

MAX_BOXES: Final = 4096
"""In one box; an image of tiles has at most two thousand properties."""

MAX_ASSOCIATIONS: Final = 65_536


def cicp_of(body: bytes) -> Cicp | None:
    """Return the code points of the image that a file shows first, if it has them."""
    try:
        return _cicp(memoryview(body))
    except (IndexError, ValueError):
        return None  # The file is cut or malformed; the decoder judges it.


def _cicp(body: memoryview) -> Cicp | None:
    meta = _first(body, b"meta")
    if meta is None:
        return None
    meta = meta[4:]
    properties = _first(meta, b"iprp")
    container = None if properties is None else _first(properties, b"ipco")
    if properties is None or container is None:
        return None
    told = {
        number: cicp
        for number, (name, content) in enumerate(_boxes(container), start=1)
        if name == b"colr" and (cicp := _nclx(content)) is not None
    }
    if not told:
        return None
    primary = _primary(meta)
    for name, content in _boxes(properties):
        if name == b"ipma":
            for item, number in _associations(content):
                if item == primary and number in told:
                    return told[number]
    # In an image of tiles the colours may be with the tiles.
    return next(iter(told.values())) if len(set(told.values())) == 1 else None


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


def _nclx(content: memoryview) -> Cicp | None:
    if bytes(content[:4]) != b"nclx" or len(content) < 8:
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
