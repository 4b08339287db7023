"""Photos in the formats of phones, cameras and programs, with the tags that they write.

Each shows the corpus's reference. Colours are computed here from the standards' numbers and not by
the code under test.
"""

import io
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pillow_heif
from PIL import Image

from api.images.colour.space import ADOBE_RGB, PRIMARIES, power, profile, srgb_to_light
from tests.support.bombs import chunk
from tests.support.corpus import REFERENCE, Right

pillow_heif.register_heif_opener()

Light = npt.NDArray[np.float64]
Edit = Callable[[bytes], bytes]

IMAGE: Final = Image.open(REFERENCE).convert("RGB")
WHITE_NITS: Final = 203.0

# From linear sRGB: published by the makers of the spaces, D65 throughout.
TO_P3: Final = (
    (0.8224620, 0.1775380, 0),
    (0.0331942, 0.9668058, 0),
    (0.0170826, 0.0723974, 0.91052),
)
TO_ADOBE: Final = ((0.7151627, 0.2848373, 0), (0, 1, 0), (0, 0.0411624, 0.9588376))
TO_2020: Final = (
    (0.6274039, 0.3292830, 0.0433131),
    (0.0690973, 0.9195404, 0.0113623),
    (0.0163914, 0.0880133, 0.8955953),
)


@dataclass(frozen=True)
class Made:
    """A photo as a maker's device writes it."""

    name: str
    body: Callable[[], bytes]
    right: Right = field(default_factory=Right)


def light() -> Light:
    """Return the reference as linear light, (height, width, 3)."""
    codes = np.asarray(IMAGE).astype(float) / 255
    return np.where(codes <= 0.04045, codes / 12.92, ((codes + 0.055) / 1.055) ** 2.4)


def srgb(linear: Light) -> Light:
    return np.where(
        linear <= 0.0031308, linear * 12.92, 1.055 * np.maximum(linear, 0) ** (1 / 2.4) - 0.055
    )


def pq(linear: Light) -> Light:
    powered = (linear * WHITE_NITS / 10_000) ** 0.1593017578125
    return ((0.8359375 + 18.8515625 * powered) / (1 + 18.6875 * powered)) ** 78.84375


def hlg(linear: Light) -> Light:
    """Return the codes with which a screen of 1000 nits shows this light."""
    shown = linear * WHITE_NITS / 1000
    luminance = shown @ np.array((0.2627, 0.6780, 0.0593))
    scene = shown * np.maximum(luminance, 1e-9)[..., None] ** (1 / 1.2 - 1)
    bright = 0.17883277 * np.log(np.maximum(12 * scene - 0.28466892, 1e-9)) + 0.55991073
    return np.where(scene <= 1 / 12, np.sqrt(3 * scene), bright)


def in_space(matrix: Any, curve: Callable[[Light], Light]) -> Image.Image:
    """Return the reference in the codes of another space."""
    codes = curve(np.clip(light() @ np.array(matrix).T, 0, 1))
    return Image.fromarray(np.clip(np.round(codes * 255), 0, 255).astype(np.uint8))


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    body = io.BytesIO()
    image.save(body, kind, **options)
    return body.getvalue()


def jpeg(image: Image.Image = IMAGE, edit: Edit | None = None, **options: Any) -> bytes:
    body = saved(image, "JPEG", **{"quality": 95, **options})
    return body if edit is None else edit(body)


def heic(image: Image.Image = IMAGE, **options: Any) -> bytes:
    return saved(image, "HEIF", **{"quality": 90, "chroma": 444, **options})


def ten_bits() -> bytes:
    """Return a HEIC of 10 bits a channel."""
    wide = np.round(srgb(light()) * 65535).astype(np.uint16)
    file, body = pillow_heif.HeifFile(), io.BytesIO()
    file.add_frombytes("RGB;16", IMAGE.size, wide.tobytes())
    file.save(body, quality=90, chroma=444)
    return body.getvalue()


def tagged(maker: str, *, orientation: int = 1, **more: Any) -> Image.Exif:
    """Return a camera's tags about itself, including notes of some kilobytes."""
    exif = Image.Exif()
    exif[0x010F], exif[0x0110], exif[0x0112] = maker, f"{maker} One", orientation
    exif.get_ifd(0x8769).update({0x927C: bytes(range(256)) * 40, 0x9003: "2026:11:30 12:00:00"})
    exif.get_ifd(0x8769).update(more.get("camera", {}))
    if "interoperability" in more:
        exif.get_ifd(0x8769)[0xA005] = {1: more["interoperability"]}
    return exif


def segment(marker: int, content: bytes) -> bytes:
    return bytes((0xFF, marker)) + struct.pack(">H", len(content) + 2) + content


def with_segments(*segments: bytes) -> Edit:
    return lambda body: body[:2] + b"".join(segments) + body[2:]


def behind(trailer: bytes, *, without_end: bool = False) -> Edit:
    return lambda body: (body[:-2] if without_end else body) + trailer


def xmp(text: str) -> bytes:
    return segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + text.encode())


def with_chunks(body: bytes, *chunks: bytes) -> bytes:
    """Return a PNG with chunks behind its header."""
    return body[:33] + b"".join(chunks) + body[33:]


def png(image: Image.Image, *chunks: bytes, **options: Any) -> bytes:
    return with_chunks(saved(image, "PNG", **options), *chunks)


def lying() -> Image.Image:
    """Return the reference as a phone that was held upright stores it (orientation 6)."""
    return IMAGE.transpose(Image.Transpose.ROTATE_90)


def avif(image: Image.Image, primaries: int, transfer: int) -> bytes:
    """Return an AVIF with these code points in place of Pillow's own."""
    body = saved(image, "AVIF", quality=95, subsampling="4:4:4")
    at = body.index(b"nclx") + 4
    return body[:at] + struct.pack(">HH", primaries, transfer) + body[at + 4 :]


def mpo() -> bytes:
    return saved(IMAGE, "MPO", quality=95, save_all=True, append_images=[IMAGE.convert("L")])


def sixteen_bits(linear: Light) -> bytes:
    """Return a PNG of 16 bits a channel."""
    wide = np.round(np.clip(linear, 0, 1) * 65535).astype(">u2")
    rows = b"".join(b"\0" + row.tobytes() for row in wide)
    header = struct.pack(">IIBBBBB", *IMAGE.size, 16, 2, 0, 0, 0)
    parts = (chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def gamma(value: float) -> bytes:
    return chunk(b"gAMA", struct.pack(">I", round(value * 100_000)))


P3 = partial(in_space, TO_P3, srgb)
ADOBE = partial(in_space, TO_ADOBE, lambda linear: linear ** (256 / 563))
P3_ICC: Final = profile(PRIMARIES[12], srgb_to_light)
ADOBE_ICC: Final = profile(ADOBE_RGB, power(563 / 256))
MOVIE: Final = b"\0\0\0\x18ftypmp42" + bytes(8) + b"\xff\xd8\xff\xe0" * 300
SAMSUNG: Final = (
    b"\0\0\x01\x0a\x0e\0\0\0Image_UTC_Data1764500000000"
    + b"SEFHj\0\0\0\x01"
    + bytes(12)
    + b"\xff\xe1\xff\xda"
    + b"\x18\0\0\0SEFT"
)
P3_NUMBERS: Final = {"color_primaries": 12, "transfer_characteristics": 13}
PQ_NUMBERS: Final = {"color_primaries": 9, "transfer_characteristics": 16}

MAKERS: Final = (
    Made("apple-photo.heic", lambda: heic(P3(), icc_profile=P3_ICC, exif=tagged("Apple"))),
    Made("apple-upright.heic", lambda: heic(IMAGE, exif=tagged("Apple", orientation=1))),
    Made(
        "apple-turned.heic", lambda: heic(lying(), exif=tagged("Apple", orientation=6).tobytes())
    ),
    Made("apple-tiles.heic", lambda: heic(P3(), icc_profile=P3_ICC, tile_size=64)),
    Made("apple-p3-by-numbers.heic", lambda: heic(P3(), save_nclx_profile=True, **P3_NUMBERS)),
    Made(
        "apple-most-compatible.jpg",
        lambda: jpeg(
            P3().transpose(Image.Transpose.ROTATE_90),
            icc_profile=P3_ICC,
            exif=tagged("Apple", orientation=6),
        ),
    ),
    Made(
        "apple-screenshot.png",
        lambda: png(P3(), chunk(b"iDOT", bytes(28)), icc_profile=P3_ICC, exif=tagged("Apple")),
    ),
    Made("samsung-photo.jpg", lambda: jpeg(edit=behind(SAMSUNG), exif=tagged("samsung"))),
    Made(
        "samsung-panorama.jpg",
        lambda: jpeg(edit=behind(SAMSUNG, without_end=True), exif=tagged("samsung")),
    ),
    Made("samsung-photo.heic", lambda: heic(chroma=420, quality=95, exif=tagged("samsung"))),
    Made(
        "google-motion-photo.jpg",
        lambda: behind(MOVIE)(
            jpeg(edit=with_segments(xmp("<x:xmpmeta GCamera:MotionPhoto='1'/>")))
        ),
    ),
    Made("google-ultra-hdr.jpg", mpo),
    Made("huawei-depth.jpg", lambda: behind(b"DepthEn\0" + bytes(4000))(mpo())),
    Made("xiaomi-photo.jpg", lambda: jpeg(exif=tagged("Xiaomi"), comment=b"{mode: night}")),
    Made("oneplus-progressive.jpg", lambda: jpeg(progressive=True, exif=tagged("OnePlus"))),
    Made(
        "optimised-progressive-without-end.jpg",
        lambda: jpeg(progressive=True, optimize=True, edit=lambda body: body[:-2]),
    ),
    Made(
        "canon-adobe-rgb.jpg",
        lambda: jpeg(
            ADOBE(),
            exif=tagged("Canon", camera={0xA001: 65535}, interoperability="R03"),
        ),
    ),
    Made("olympus-adobe-rgb.jpg", lambda: jpeg(ADOBE(), exif=tagged("O", camera={0xA001: 2}))),
    Made("nikon-adobe-rgb.jpg", lambda: jpeg(ADOBE(), icc_profile=ADOBE_ICC)),
    Made(
        "sony-photo.jpg",
        lambda: jpeg(edit=with_segments(segment(0xED, b"Photoshop 3.0\0" + bytes(99)))),
    ),
    Made("sony-10-bit.hif.heic", ten_bits),
    Made("sony-4-2-2.hif.heic", lambda: heic(chroma=422, quality=95, exif=tagged("SONY"))),
    Made(
        "canon-pq.hif.heic",
        lambda: heic(in_space(TO_2020, pq), save_nclx_profile=True, **PQ_NUMBERS),
        Right(warns="HDR (PQ)"),
    ),
    Made("fujifilm-restarts.jpg", lambda: jpeg(restart_marker_blocks=4, dpi=(300, 300))),
    Made("gopro-telemetry.jpg", lambda: jpeg(edit=with_segments(segment(0xE6, b"GPMF" * 900)))),
    Made("dji-padded.jpg", lambda: jpeg(edit=behind(bytes(5000)), exif=tagged("DJI"))),
    Made("photoshop-cmyk.jpg", lambda: jpeg(IMAGE.convert("CMYK"))),
    Made(
        "scanner-grey.jpg",
        lambda: jpeg(IMAGE.convert("L"), dpi=(600, 600)),
        Right(grey=True),
    ),
    Made("windows-screenshot.png", lambda: png(IMAGE, gamma(0.45455), chunk(b"sRGB", b"\0"))),
    Made(
        "old-mac.png",
        lambda: png(in_space(np.eye(3), lambda linear: linear ** (1 / 1.8)), gamma(1 / 1.8)),
    ),
    Made("renderer-linear-16-bit.png", lambda: with_chunks(sixteen_bits(light()), gamma(1.0))),
    Made(
        "android-screenshot-p3.webp",
        lambda: saved(P3(), "WEBP", quality=95, icc_profile=P3_ICC),
    ),
    Made("browser-p3.avif", lambda: avif(P3(), 12, 13)),
    Made("editor-p3-by-numbers.png", lambda: png(P3(), chunk(b"cICP", b"\x0c\x0d\0\1"))),
    Made(
        "broadcast-hlg.avif",
        lambda: avif(in_space(TO_2020, hlg), 9, 18),
        Right(warns="HDR (HLG)"),
    ),
)
