"""The kind of a file by its first bytes, for files that no decoder could open."""

from typing import Final, Literal

HEAD_BYTES: Final = 256
MAX_CHUNKS: Final = 100_000
TEXT_BYTES: Final = 4096
"""A drawing may begin with a long note of the program that made it."""


def is_cut(body: bytes) -> bool:
    """Say whether a file is shorter than its own boxes declare; for PNG, WEBP, AVIF and HEIC."""
    if looks_like(body) == "WEBP":
        return int.from_bytes(body[4:8], "little") + 8 > len(body)
    if looks_like(body) == "PNG":
        return _ends_in_a_chunk(body)
    if looks_like(body) not in {"AVIF", "HEIC"}:
        return False
    at = 0
    while at < len(body):
        size = int.from_bytes(body[at : at + 4], "big")
        if size < 8:
            return size != 0
        at += size
    return at > len(body)


def _ends_in_a_chunk(body: bytes) -> bool:
    at = 8
    for _ in range(MAX_CHUNKS):
        if body[at + 4 : at + 8] == b"IEND":
            return False
        at += 12 + int.from_bytes(body[at : at + 4], "big")
        if at > len(body):
            return True
    return False


def looks_like(body: bytes) -> str | None:
    """Return the kind of file by its first bytes, for a message that helps."""
    head = body[:HEAD_BYTES]
    for magic, kind in _IMAGES:
        if head.startswith(magic):
            return kind
    if head[4:8] == b"ftyp":
        return _kind_of_boxes(head)
    if head[:4] == b"RIFF":
        return "WEBP" if head[8:12] == b"WEBP" else "a sound or a video"
    for at, magic, kind in _INSIDE:
        if head[at : at + len(magic)] == magic:
            return kind
    if head[:4] in _TIFFS:
        return _kind_of_tiff(body)
    text = body[:TEXT_BYTES].removeprefix(_BYTE_ORDER_MARK).lstrip()
    if text.startswith(_IMAGES[0][0]):
        return "a JPEG behind other bytes"
    text = text.lower()
    if text.startswith(b"<") and b"<svg" in text:
        return "an SVG"
    return next((kind for magic, kind in _MAGICS if head.startswith(magic)), None) or next(
        (kind for magic, kind in _TEXTS if text.startswith(magic)), None
    )


def _kind_of_tiff(body: bytes) -> str:
    """Return what a TIFF is: cameras write their RAW files as one."""
    order: Literal["little", "big"] = "little" if body[:2] == b"II" else "big"
    at = int.from_bytes(body[4:8], order)
    count = min(int.from_bytes(body[at : at + 2], order), MAX_TAGS)
    places = range(at + 2, at + 2 + 12 * count, 12)
    tags = {int.from_bytes(body[place : place + 2], order) for place in places}
    return _RAW if _DNG in tags or {_MAKER, _MORE_IMAGES} <= tags else "a TIFF"


def _kind_of_boxes(head: bytes) -> str:
    """Return the kind of a file of boxes by its brands; the first may be a whole family's."""
    size = min(int.from_bytes(head[:4], "big"), len(head))
    brands = [head[8:12], *(head[at : at + 4] for at in range(16, size - 3, 4))]
    if brands[0] == b"crx ":
        return _RAW
    for kind, known in _BRANDS.items():
        if any(brand in known for brand in brands):
            return kind
    return "a video"


_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"

_TEXT_TRANSFER: Final = "an image whose bytes were changed as if they were text"

_JSON: Final = "JSON"
_DATA_URI: Final = "a data URI in a file"
_BASE64: Final = "base64 in a file"
VALUES: Final = frozenset({_JSON, _DATA_URI, _BASE64})
"""Kinds that a text field may hold as they stand."""

_BRANDS: Final = {
    "AVIF": frozenset({b"avif", b"avis"}),
    "HEIC": frozenset(
        {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1"}
    ),
}

_IMAGES: Final = ((b"\xff\xd8\xff", "JPEG"), (b"\x89PNG\r\n\x1a\n", "PNG"))

_RAW: Final = "a camera's RAW file"

_TIFFS: Final = frozenset({b"II*\0", b"MM\0*"})
MAX_TAGS: Final = 500
_MAKER, _MORE_IMAGES, _DNG = 0x010F, 0x014A, 0xC612

_INSIDE: Final = (
    (8, b"CR\x02", _RAW),
    (40, b" EMF", "a drawing (EMF)"),
    (128, b"DICM", "a DICOM file"),
    (4, b"moov", "a video"),
    (4, b"mdat", "a video"),
    (4, b"wide", "a video"),
    (4, b"free", "a video"),
)
"""Kinds that are told by what stands further in."""

_MAGICS: Final = (
    (b"GIF8", "a GIF"),
    (b"BM", "a BMP"),
    *((magic, "a TIFF") for magic in (b"II+\0", b"MM\0+")),
    *((magic, "a JPEG XL") for magic in (b"\xff\x0a", b"\0\0\0\x0cJXL ")),
    *((magic, "a JPEG 2000") for magic in (b"\0\0\0\x0cjP  ", b"\xff\x4f\xff\x51")),
    (b"II\xbc\x01", "a JPEG XR"),
    *((magic + bytes(5), "a TGA") for magic in (b"\0\0\x02", b"\0\0\x0a")),
    (b"\x0a\x05\x01", "a PCX"),
    *((magic, "an icon") for magic in (b"\0\0\x01\0", b"\0\0\x02\0", b"icns")),
    *((magic, "PostScript") for magic in (b"%!PS", b"\xc5\xd0\xd3\xc6")),
    (b"%PDF", "a PDF"),
    (b"8BPS", "a Photoshop file"),
    (b"gimp xcf", "a GIMP file"),
    *((b"P%d" % n + blank, "a PNM") for n in range(1, 8) for blank in (b"\n", b" ", b"\r")),
    (b"qoif", "a QOI"),
    (b"DDS ", "a DDS"),
    (b"\x01\xda", "an SGI image"),
    (b"BPG\xfb", "a BPG"),
    (b"\x8aMNG", "an MNG"),
    (b"v/1\x01", "an OpenEXR"),
    *((magic, "a Radiance HDR") for magic in (b"#?RADIANCE", b"#?RGBE")),
    (b"SIMPLE  =", "a FITS file"),
    (b"\xd7\xcd\xc6\x9a", "a drawing (WMF)"),
    *((magic, _RAW) for magic in (b"FUJIFILMCCD", b"IIRO", b"IIRS", b"MMOR", b"IIU\0")),
    *((magic, _RAW) for magic in (b"FOVb", b"\0MRM")),
    (b"\x1aE\xdf\xa3", "a video"),
    *((magic, "a sound") for magic in (b"ID3", b"fLaC")),
    (b"OggS", "a sound or a video"),
    (b"PK\x03\x04", "a ZIP archive"),
    (b"\0\x05\x16\x07", "what macOS keeps beside a file (._NAME), not the file"),
    (b"\x1f\x8b", "a gzip archive"),
    *((magic, "an archive") for magic in (b"7z\xbc\xaf\x27\x1c", b"Rar!")),
    (b"\x89PNG", _TEXT_TRANSFER),
    (b"\xef\xbf\xbd", _TEXT_TRANSFER),
    (b"\xc3\xbf\xc3\x98\xc3\xbf", _TEXT_TRANSFER),
    (b"\xc2\x89PNG", _TEXT_TRANSFER),
)

_TEXTS: Final = (
    (b"<?xml", "XML, like the error of a store"),
    (b"<", "a web page"),
    *((magic, _JSON) for magic in (b"{", b"[{", b'["')),
    (b"data:", _DATA_URI),
    *((magic, _BASE64) for magic in (b"ivborw0kgg", b"/9j/", b"uklgr")),
    (b"version https://git-lfs", "a pointer of Git LFS in place of the file"),
)
"""In small letters."""
