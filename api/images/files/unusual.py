"""Images of the formats that are read, in kinds of them that are not: what to call them."""

from typing import Final

from api.images.scans import MAX_SEGMENTS

PNG_SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
_JPEG: Final = b"\xff\xd8"

_FRAMES: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_LOSSLESS: Final = frozenset({0xC3, 0xC7, 0xCB, 0xCF})
_HIERARCHICAL: Final = frozenset({0xC5, 0xC6, 0xCD, 0xCE})
_JPEG_LS: Final = 0xF7
_START_OF_SCAN: Final = 0xDA
_OTHER_CODECS: Final = frozenset(
    {b"avci", b"avcs", b"j2ki", b"j2is", b"vvic", b"vvis", b"evbi", b"evbs"}
)
_BARE: Final = frozenset({0x01, *range(0xD0, 0xD9)})


def unusual_kind(body: bytes) -> str | None:
    """Return what an image is that no decoder here reads, though its format is; else None."""
    if body.startswith(PNG_SIGNATURE) and body[12:16] == b"CgBI":
        return "a PNG that Xcode has packed for an iPhone (CgBI)"
    if body[4:8] == b"ftyp" and body[8:12] in _OTHER_CODECS:
        return "a HEIF of another codec than HEVC"
    return _kind_of_jpeg(body) if body.startswith(_JPEG) else None


def _kind_of_jpeg(body: bytes) -> str | None:
    at = 2
    for _ in range(MAX_SEGMENTS):
        marker = body[at + 1 : at + 2]
        if body[at : at + 1] != b"\xff" or not marker or marker[0] == _START_OF_SCAN:
            return None
        if marker[0] == 0xFF:
            at += 1
        elif marker[0] in _BARE:
            at += 2
        elif marker[0] in _FRAMES or marker[0] == _JPEG_LS:
            return _kind_of_frame(marker[0], body[at + 4 : at + 10])
        else:
            at += 2 + int.from_bytes(body[at + 2 : at + 4], "big")
    return None


def _kind_of_frame(marker: int, frame: bytes) -> str | None:
    if marker == _JPEG_LS:
        return "a JPEG-LS"
    if marker in _LOSSLESS:
        return "a lossless JPEG"
    if marker in _HIERARCHICAL:
        return "a JPEG of several layers"
    if len(frame) < 6:
        return None
    bits, height, channels = frame[0], int.from_bytes(frame[1:3], "big"), frame[5]
    if bits != 8:
        return f"a JPEG of {bits} bits a channel"
    if height == 0:
        return "a JPEG whose height stands behind its pixels"
    return None if channels in {1, 3, 4} else f"a JPEG of {channels} channels"
