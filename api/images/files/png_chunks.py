"""The chunks of a PNG: those of the image are kept, and the others are left out unread.

A wrong checksum, or a profile of megabytes, in a chunk that is not needed does not damage an
image, but Pillow would refuse it.
"""

import struct
import zlib
from dataclasses import dataclass, replace
from typing import Final

from api.images.colour.space import UNSPECIFIED, Cicp, Primaries
from api.images.colour.to_srgb import Told

SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
MAX_CHUNKS: Final = 100_000
MAX_PROFILE: Final = 4 * 1024 * 1024
"""Of the unpacked profile; a printer's profile has some megabytes."""

MAX_EXIF: Final = 64 * 1024

_IMAGE: Final = frozenset({b"IHDR", b"PLTE", b"IDAT", b"IEND"})
_IF_WHOLE: Final = {b"tRNS": 1, b"acTL": 8, b"fcTL": 26}
"""What counts where its checksum is right and it has so many bytes; browsers pass over it else."""

_PALETTE: Final = 3
_ENTRY: Final = 3
"""Bytes of a colour in a palette."""

_COLOURS_END: Final = frozenset({b"PLTE", b"IDAT"})
"""What is said of colours behind these comes too late."""
_GREY, _RGB = 0, 2


@dataclass(frozen=True)
class Png:
    """A PNG without the chunks that do not matter, and the facts from those that do."""

    body: bytes
    told: Told
    transparent: int | tuple[int, ...] | None = None
    """The grey or colour that is transparent, in the bit depth of the file."""


def read_png(body: bytes) -> Png:
    """Return what matters of a PNG; cut or damaged parts are left for the decoder."""
    kept, told, transparent = [SIGNATURE], Told(is_cicp_first=True), None
    depth = colour_type = 0
    at, is_early = len(SIGNATURE), True
    heard: set[bytes] = set()
    for _ in range(MAX_CHUNKS):
        length, name = int.from_bytes(body[at : at + 4], "big"), body[at + 4 : at + 8]
        end = at + 12 + length
        if end > len(body) or len(name) < 4:
            kept.append(body[at:])
            break
        content = memoryview(body)[at + 8 : end - 4]
        is_early &= name not in _COLOURS_END
        if name == b"PLTE" and colour_type == _PALETTE and _has_checksum(body[at:end]):
            kept.append(_chunk(name, _filled(content, 1 << min(depth, 8))))
        elif name in _IMAGE or (name in _IF_WHOLE and _is_whole(name, body[at:end])):
            kept.append(body[at:end])
        elif name == b"eXIf" and length <= MAX_EXIF:
            kept.append(_chunk(name, content))
        elif name[:1].isupper():
            kept.append(body[at:end])  # A chunk that the image needs and no decoder knows.
        elif is_early and name not in heard and _is_sound(name, body[at:end]):
            heard.add(name)  # Of two browsers believe the first.
            told = _heard(told, name, content)
        if name == b"IHDR" and length == 13:
            depth, colour_type = content[8], content[9]
        if name == b"tRNS" and colour_type in {_GREY, _RGB} and kept[-1] == body[at:end]:
            transparent = _hole(content, depth, colour_type)
        if name == b"IEND":
            break
        at = end
    return Png(b"".join(kept), told, transparent)


def _is_whole(name: bytes, chunk: bytes) -> bool:
    return len(chunk) - 12 >= _IF_WHOLE[name] and _has_checksum(chunk)


def _is_sound(name: bytes, chunk: bytes) -> bool:
    """Say whether a chunk may be believed; a profile has a checksum of its own."""
    return name == b"iCCP" or _has_checksum(chunk)


def _has_checksum(chunk: bytes) -> bool:
    return chunk[-4:] == zlib.crc32(chunk[4:-4]).to_bytes(4, "big")


def _chunk(name: bytes, content: bytes | memoryview) -> bytes:
    whole = name + bytes(content)
    return struct.pack(">I", len(content)) + whole + struct.pack(">I", zlib.crc32(whole))


def _filled(palette: memoryview, entries: int) -> bytes:
    """Return a palette with its last colour again and again, as browsers show what lies beyond.

    Pillow would make up a grey.
    """
    whole = bytes(palette[: len(palette) // _ENTRY * _ENTRY])
    return whole + whole[-_ENTRY:] * (entries - len(whole) // _ENTRY)


def _heard(told: Told, name: bytes, content: memoryview) -> Told:
    """Return the facts about the colours after one more chunk."""
    if name == b"iCCP":
        return replace(told, icc=_profile(bytes(content)))
    if name == b"sRGB":
        return replace(told, is_srgb=True)
    if name == b"cICP" and len(content) == 4:
        if content[0] == UNSPECIFIED or content[1] == UNSPECIFIED:
            return told  # What else is said counts.
        return replace(told, cicp=Cicp(content[0], content[1]), is_narrow=content[3] == 0)
    if name == b"gAMA" and len(content) == 4:
        gamma = int.from_bytes(content, "big") / 100_000
        return replace(told, gamma=gamma if 0.1 <= gamma <= 10 else None)
    if name == b"cHRM" and len(content) == 32:
        x = [value / 100_000 for value in struct.unpack(">8I", content)]
        white, red, green, blue = zip(x[::2], x[1::2], strict=True)
        return replace(told, primaries=Primaries(red, green, blue, white))
    return told


def _profile(content: bytes) -> bytes | None:
    """Return an embedded profile, unpacked; None if it is too large, or not a profile."""
    packed = content.partition(b"\0")[2][1:]
    unpacker = zlib.decompressobj()
    try:
        icc = unpacker.decompress(packed, MAX_PROFILE)
    except zlib.error:
        return None
    return icc if unpacker.eof else None


def _hole(content: memoryview, depth: int, colour_type: int) -> int | tuple[int, ...] | None:
    if len(content) < (2 if colour_type == _GREY else 6):
        return None
    if colour_type == _GREY:
        value = int.from_bytes(content[:2], "big")
        # Pillow stretches fewer than eight bits to 0..255, but not the value of the transparent
        # colour.
        return value if depth >= 8 else value * 255 // (2**depth - 1)
    values = struct.unpack(">3H", content[:6])
    return tuple(value >> 8 if depth == 16 else value for value in values)
