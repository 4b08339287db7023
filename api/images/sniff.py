"""What a file looks like by its first bytes, where no decoder could open it."""

from typing import Final


def is_cut(body: bytes) -> bool:
    """Say whether a file is shorter than its own boxes declare; for WEBP and AVIF."""
    if looks_like(body) == "WEBP":
        return int.from_bytes(body[4:8], "little") + 8 > len(body)
    if looks_like(body) != "AVIF":
        return False
    at = 0
    while at < len(body):
        size = int.from_bytes(body[at : at + 4], "big")
        if size < 8:
            return size != 0
        at += size
    return at > len(body)


def looks_like(body: bytes) -> str | None:
    """Return the kind of file by its first bytes, for a message that helps."""
    head = body[:64]
    if head[4:8] == b"ftyp":
        return _BRANDS.get(head[8:12], "a video")
    if head[:4] == b"RIFF":
        return "WEBP" if head[8:12] == b"WEBP" else "a sound or a video"
    if b"<svg" in head or b"<?xml" in head:
        return "an SVG"
    return next((kind for magic, kind in _MAGICS if head.startswith(magic)), None)


_BRANDS: Final = {
    b"avif": "AVIF",
    b"avis": "AVIF",
    b"heic": "HEIC",
    b"heix": "HEIC",
    b"mif1": "HEIC",
    b"msf1": "HEIC",
}

_MAGICS: Final = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF8", "a GIF"),
    (b"BM", "a BMP"),
    (b"II*\0", "a TIFF"),
    (b"MM\0*", "a TIFF"),
    (b"\xff\x0a", "a JPEG XL"),
    (b"\0\0\0\x0cJXL ", "a JPEG XL"),
    (b"%PDF", "a PDF"),
    (b"8BPS", "a Photoshop file"),
    (b"PK\x03\x04", "a ZIP archive"),
    (b"<", "a web page"),
)
