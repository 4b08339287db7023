"""Images that are small as files but take all that a decoder has, made here byte by byte."""

import functools
import io
import struct
import zlib

from PIL import Image

SIDE = 8000


def chunk(name: bytes, body: bytes) -> bytes:
    """Return one chunk of a PNG."""
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png(header: tuple[int, int, int, int], rows: bytes, extra: bytes = b"") -> bytes:
    """Return a PNG made by hand: (width, height, bit depth, colour type) and its raw rows."""
    return packed_png(header, zlib.compress(rows), extra)


def packed_png(header: tuple[int, int, int, int], packed: bytes, extra: bytes = b"") -> bytes:
    """Return a PNG whose rows are packed already."""
    width, height, depth, colour = header
    ihdr = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", ihdr)
        + extra
        + chunk(b"IDAT", packed)
        + chunk(b"IEND", b"")
    )


@functools.cache
def zeros(count: int) -> bytes:
    """Return that many zeros packed by zlib, without ever holding them."""
    packer = zlib.compressobj(6)
    packed = [packer.compress(bytes(min(2**20, count - at))) for at in range(0, count, 2**20)]
    return b"".join([*packed, packer.flush()])


def png_bomb(side: int = SIDE) -> bytes:
    """Return a transparent image of a quarter megabyte that decodes to a quarter gigabyte."""
    return packed_png((side, side, 8, 6), zeros(side * (4 * side + 1)))


def png_flood(side: int) -> bytes:
    """Return a header that promises `side` squared pixels, and a single row of them."""
    return png((side, side, 8, 2), bytes(3 * side + 1))


@functools.cache
def jpeg_scans(side: int, scans: int) -> bytes:
    """Return a grey progressive JPEG that repeats its last scan: few bytes but a pass for each."""
    body = io.BytesIO()
    Image.new("L", (side, side), 99).save(body, "JPEG", progressive=True)
    whole = body.getvalue()
    last = whole.rindex(b"\xff\xda")
    return whole[:last] + whole[last:-2] * scans + b"\xff\xd9"
