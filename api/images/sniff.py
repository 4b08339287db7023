"""The kind of a file by its first bytes, for files that no decoder could open."""

from typing import Final

HEAD_BYTES: Final = 128


def is_cut(body: bytes) -> bool:
    """Say whether a file is shorter than its own boxes declare; for WEBP, AVIF and HEIC."""
    if looks_like(body) == "WEBP":
        return int.from_bytes(body[4:8], "little") + 8 > len(body)
    if looks_like(body) not in {"AVIF", "HEIC"}:
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
    head = body[:HEAD_BYTES]
    if head[4:8] == b"ftyp":
        return _kind_of_boxes(head)
    if head[:4] == b"RIFF":
        return "WEBP" if head[8:12] == b"WEBP" else "a sound or a video"
    if b"<svg" in head or b"<?xml" in head:
        return "an SVG"
    return next((kind for magic, kind in _MAGICS if head.startswith(magic)), None)


def _kind_of_boxes(head: bytes) -> str:
    """Return the kind of a file of boxes by its brands; the first brand may be that of a whole
    family."""
    size = min(int.from_bytes(head[:4], "big"), len(head))
    brands = [head[8:12], *(head[at : at + 4] for at in range(16, size - 3, 4))]
    for kind, known in _BRANDS.items():
        if any(brand in known for brand in brands):
            return kind
    return "a video"


_BRANDS: Final = {
    "AVIF": frozenset({b"avif", b"avis"}),
    "HEIC": frozenset(
        {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1"}
    ),
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
