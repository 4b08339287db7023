"""The messages about an image between the gateway and its decoder processes."""

import json
import socket
import struct
import time
from dataclasses import dataclass
from typing import Final

REQUEST: Final = struct.Struct("!QQ")
"""The most pixels, and the number of bytes of the upload that follows."""

ANSWER: Final = struct.Struct("!iIQ")
"""How the fork ended as `waitpid` gives it, the bytes of the head, the bytes of the PNG."""


@dataclass(frozen=True)
class DecodedImage:
    """A normalised image: PNG, 8-bit sRGB, upright, without alpha or metadata.

    `sha256` is the PNG's; sides are in pixels.
    """

    png: bytes
    sha256: str
    width: int
    height: int
    warnings: tuple[str, ...]

    def head(self) -> bytes:
        """Return everything except the PNG, for `image_of`."""
        return json.dumps([self.sha256, self.width, self.height, self.warnings]).encode()


@dataclass(frozen=True, kw_only=True)
class Limits:
    """The limits for decoding one image.

    Of all images of 64 megapixels a WEBP with alpha takes the most: 1.2 GiB of addresses with its
    answer's, and 2.3 s of a core (x86-64). A phone's JPEG of 48 megapixels takes 0.3 GiB and 1 s.
    The wall clock has more time, because the cores may be shared.
    """

    memory_bytes: int = 1536 * 1024 * 1024
    cpu_seconds: int = 10
    wall_seconds: float = 30.0


def image_of(head: bytes, png: bytes) -> DecodedImage:
    """Return the image for a `DecodedImage.head` and its PNG."""
    sha256, width, height, warnings = json.loads(head)
    return DecodedImage(png, sha256, width, height, tuple(warnings))


def receive(peer: socket.socket, count: int, *, until: float | None = None) -> bytes:
    """Return exactly `count` bytes; `until` is a time of the monotonic clock.

    Raises:
        EOFError: the other side is gone.
        TimeoutError: the time ran out first.
    """
    received = bytearray(count)
    rest = memoryview(received)
    while rest:
        if until is not None:
            peer.settimeout(max(until - time.monotonic(), 0.001))
        arrived = peer.recv_into(rest)
        if not arrived:
            raise EOFError
        rest = rest[arrived:]
    return bytes(received)
