"""Images of every kind that a stranger may send: good, odd, broken and hostile; seeded."""

import functools
import io
import random
import struct
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from PIL import Image, ImageCms

from tests.support.bombs import chunk, jpeg_scans, packed_png, png, png_bomb, png_flood, zeros
from tests.support.gateway import encoded
from tests.support.photos import cat

Make = Callable[[random.Random], bytes]

FORMATS = ("JPEG", "PNG", "WEBP", "AVIF")
IMAGE = Image.fromarray(cat()).resize((240, 160))
SMALL = IMAGE.resize((48, 32))
OPEN_XML = b"<x>" * 99


@dataclass(frozen=True)
class Kind:
    """A kind of upload, the statuses that are right for it, and how often it is sent."""

    make: Make
    right: frozenset[int]
    weight: float = 1.0


@functools.cache
def saved(kind: str, mode: str = "RGB", **options: Any) -> bytes:
    return encoded(IMAGE.convert(mode), kind, **options)


def truncated(kind: str) -> Make:
    def make(rng: random.Random) -> bytes:
        body = saved(kind)
        return body[: len(body) * rng.randrange(1, 16) // 16]

    return make


def flipped(kind: str) -> Make:
    def make(rng: random.Random) -> bytes:
        body = bytearray(saved(kind))
        for _ in range(rng.choice((1, 4, 64))):
            body[rng.randrange(len(body))] ^= 1 << rng.randrange(8)
        return bytes(body)

    return make


def animated(kind: str) -> bytes:
    return encoded(SMALL, kind, save_all=True, append_images=[SMALL.rotate(90)], duration=99)


def patched(body: bytes, mark: bytes, offset: int, new: bytes) -> bytes:
    """Replace the bytes at an offset from the start of a mark."""
    at = body.index(mark) + offset
    return body[:at] + new + body[at + len(new) :]


def huge_webp() -> bytes:
    """Return a WebP with a small frame on a canvas of 2^24 squared pixels."""
    frame = saved("WEBP")[12:]
    body = b"WEBP" + b"VP8X" + struct.pack("<IB3x", 10, 0) + b"\xff\xff\xff" * 2 + frame
    return b"RIFF" + struct.pack("<I", len(body)) + body


def zip_file() -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("photo.jpg", b"no photo")
    return packed.getvalue()


def exif_loop() -> bytes:
    """Return EXIF with a directory that points at itself, and with an endless list of values."""
    entries = struct.pack("<HHII", 0x8769, 4, 1, 8) + struct.pack("<HHII", 0x0112, 3, 2**31, 8)
    return b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<H", 2) + entries + struct.pack("<I", 8)


def with_chunk(name: bytes, body: bytes) -> bytes:
    return png((64, 64, 8, 2), bytes(64 * 193), chunk(name, body))


def broken_palette() -> bytes:
    """Return an image whose palette has one colour, and whose pixels all name another colour."""
    return png((64, 64, 8, 3), (b"\0" + b"\xfe" * 64) * 64, chunk(b"PLTE", b"\1\2\3"))


def wide_profile() -> bytes:
    """Return a colour profile that says that it is a gigabyte long."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return struct.pack(">I", 2**30) + profile[4:]


def fixed(make: Callable[[], bytes]) -> Make:
    once = functools.cache(make)
    return lambda rng: once()


OK = frozenset({202})
UNREADABLE = frozenset({422})
NO_IMAGE = frozenset({415})
TOO_LARGE = frozenset({413})
EITHER = OK | UNREADABLE | NO_IMAGE | TOO_LARGE
"""For damage that may hit bytes without effect, or any part of the header."""

GOOD: dict[str, Kind] = {
    **{f"good {kind}": Kind(fixed(lambda kind=kind: saved(kind)), OK, 6) for kind in FORMATS},  # type: ignore[misc]
    "good progressive": Kind(fixed(lambda: saved("JPEG", progressive=True)), OK),
    "good cmyk": Kind(fixed(lambda: saved("JPEG", "CMYK")), OK),
    "good mpo": Kind(
        fixed(lambda: encoded(SMALL, "MPO", save_all=True, append_images=[SMALL])), OK
    ),
    "good 16-bit": Kind(
        fixed(lambda: png((64, 64, 16, 2), (b"\0" + bytes(range(128)) * 3) * 64)), OK
    ),
    "good palette": Kind(fixed(lambda: saved("PNG", "P", transparency=0)), OK),
    "good 1-bit": Kind(fixed(lambda: saved("PNG", "1")), OK),
}

WRONG_TYPES: dict[str, bytes] = {
    "gif": encoded(SMALL, "GIF"),
    "animated gif": animated("GIF"),
    "bmp": encoded(SMALL, "BMP"),
    "tiff": encoded(SMALL, "TIFF"),
    "ico": encoded(SMALL, "ICO"),
    "postscript": encoded(SMALL, "EPS"),
    "pdf": encoded(SMALL, "PDF"),
    "svg": b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>',
    "xml bomb": b'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b "' + OPEN_XML + b'">]><a>&b;</a>',
    "html": b"<!doctype html><script>alert(1)</script>",
    "mp4": b"\0\0\0\x18ftypisom" + bytes(999),
    "zip": zip_file(),
    "exe": b"MZ" + bytes(999),
    "elf": b"\x7fELF" + bytes(999),
    "pickle": b"\x80\x04cos\nsystem\n(S'true'\ntR.",
    "gif with script": b"GIF89a/*" + bytes(99) + b"*/=1;alert(1)",
    "text": b"hello, I am an image",
}

HOSTILE: dict[str, Kind] = {
    **{f"truncated {kind}": Kind(truncated(kind), UNREADABLE, 3) for kind in FORMATS},
    "heic of nothing": Kind(fixed(lambda: b"\0\0\0\x18ftypheic" + bytes(999)), UNREADABLE),
    **{f"flipped {kind}": Kind(flipped(kind), EITHER, 4) for kind in FORMATS},
    **{
        f"{name} for an image": Kind(fixed(lambda body=body: body), NO_IMAGE)  # type: ignore[misc]
        for name, body in WRONG_TYPES.items()
    },
    **{
        f"animated {kind}": Kind(fixed(lambda kind=kind: animated(kind)), UNREADABLE)  # type: ignore[misc]
        for kind in FORMATS[1:]
    },
    "random bytes": Kind(lambda rng: b"\0" + rng.randbytes(rng.randrange(1, 99_999)), NO_IMAGE),
    "nothing": Kind(fixed(bytes), UNREADABLE),
    "jpeg with a zip behind it": Kind(fixed(lambda: saved("JPEG") + zip_file()), OK),
    "jpeg with a page in it": Kind(
        fixed(lambda: saved("JPEG", comment=b"<script>alert(1)</script>")), OK
    ),
    "png flood": Kind(fixed(lambda: png_flood(30_000)), TOO_LARGE),
    "jpeg flood": Kind(
        fixed(lambda: patched(saved("JPEG"), b"\xff\xc0", 5, b"\xff\xff\xff\xff")), TOO_LARGE
    ),
    "webp flood": Kind(fixed(huge_webp), TOO_LARGE | UNREADABLE),
    "avif flood": Kind(
        fixed(lambda: patched(saved("AVIF"), b"ispe", 8, struct.pack(">II", 60_000, 60_000))),
        TOO_LARGE | UNREADABLE,
    ),
    "png bomb within the limit": Kind(fixed(png_bomb), OK, 0.04),
    "png bomb of one row": Kind(
        fixed(lambda: packed_png((64, 64, 8, 2), zeros(2**28))), OK | UNREADABLE, 0.3
    ),
    "jpeg of ten thousand scans": Kind(fixed(lambda: jpeg_scans(4000, 10_000)), UNREADABLE, 0.04),
    "jpeg of fifty scans": Kind(fixed(lambda: jpeg_scans(256, 50)), OK),
    # The image is sound: a decoder skips the content of a side chunk unread.
    "text bomb": Kind(fixed(lambda: with_chunk(b"zTXt", b"a\0\0" + zeros(10**8))), OK),
    "international text bomb": Kind(
        fixed(lambda: with_chunk(b"iTXt", b"a\0\1\0\0\0" + zeros(10**8))), OK
    ),
    "profile bomb": Kind(
        fixed(lambda: with_chunk(b"iCCP", b"a\0\0" + zeros(10**8))), OK | UNREADABLE
    ),
    "profile that lies": Kind(fixed(lambda: saved("JPEG", icc_profile=wide_profile())), OK),
    "exif in a loop": Kind(fixed(lambda: saved("JPEG", exif=exif_loop())), OK),
    "exif of noise": Kind(
        lambda rng: encoded(SMALL, "JPEG", exif=b"Exif\0\0II*\0" + rng.randbytes(60_000)), OK
    ),
    "palette without its colours": Kind(fixed(broken_palette), OK | UNREADABLE),
    "chunk longer than the file": Kind(
        fixed(lambda: patched(saved("PNG"), b"IDAT", -4, b"\x7f\xff\xff\xff")), OK | UNREADABLE
    ),
    "png without an end": Kind(fixed(lambda: saved("PNG")[:-12]), OK | UNREADABLE),
    "png without rows": Kind(fixed(lambda: png((64, 64, 8, 2), b"")), UNREADABLE),
    "png of no size": Kind(fixed(lambda: png((0, 0, 8, 2), b"")), UNREADABLE),
    "one row": Kind(fixed(lambda: encoded(Image.new("RGB", (60_000, 1)), "PNG")), UNREADABLE),
    "one column": Kind(fixed(lambda: encoded(Image.new("RGB", (1, 9000)), "JPEG")), UNREADABLE),
    "too small": Kind(fixed(lambda: encoded(Image.new("RGB", (15, 15)), "WEBP")), UNREADABLE),
    "too long": Kind(fixed(lambda: encoded(Image.new("L", (4000, 99)), "PNG")), UNREADABLE),
}

IMAGES = GOOD | HOSTILE
