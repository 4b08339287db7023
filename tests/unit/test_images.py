"""Whatever a client sends as an image becomes one plain PNG, or an error that it can read."""

import contextlib
import io
import itertools
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms

from api.images.files import heif
from api.images.normalize import MAX_SHORT_SIDE, read_image
from api.images.scans import count_scans
from shared.errors.images import (
    AnimatedImage,
    ImageOverLimits,
    ImageTooLarge,
    InvalidImage,
    TruncatedImage,
    UnsupportedImage,
)
from tests.support.bombs import chunk, jpeg_scans, png
from tests.support.corpus import REFERENCE
from tests.support.gateway import encoded
from tests.support.photos import Photo, cat

MAX_PIXELS = 2_000_000
RNG_SEED = 7860

IMAGE = Image.fromarray(cat()).resize((240, 160))
GREY = IMAGE.convert("L")
HEIC = REFERENCE.with_name("photo.heic").read_bytes()


def read(body: bytes) -> Photo:
    """Return the pixels that are stored for an upload, (height, width, 3)."""
    image = read_image(body, max_pixels=MAX_PIXELS)
    stored = Image.open(io.BytesIO(image.png))
    assert (stored.format, stored.mode, stored.size) == (
        "PNG",
        "RGB",
        (image.width, image.height),
    )
    return np.asarray(stored)


def psnr(first: Photo, second: Photo) -> float:
    error = np.mean((first.astype(float) - second.astype(float)) ** 2)
    return float(10 * np.log10(255**2 / max(error, 1e-9)))


def with_alpha(value: int) -> Image.Image:
    image = IMAGE.convert("RGBA")
    image.putalpha(value)
    return image


def sixteen_bit_rgb() -> bytes:
    wide = np.asarray(IMAGE).astype(">u2") * 257
    rows = b"".join(b"\0" + row.tobytes() for row in wide)
    return png((*IMAGE.size, 16, 2), rows)


def sixteen_bit_grey() -> bytes:
    return encoded(Image.fromarray(np.asarray(GREY).astype(np.uint16) * 257), "PNG")


def palette_with_hole() -> bytes:
    image = IMAGE.quantize(64)
    return encoded(image, "PNG", transparency=0)


def phone_mpo() -> bytes:
    """Return a JPEG with a second image after the first, as phones write them."""
    return encoded(IMAGE, "MPO", save_all=True, append_images=[GREY.convert("RGB")])


GOOD: dict[str, Callable[[], bytes]] = {
    "jpeg": lambda: encoded(IMAGE, "JPEG", quality=95),
    "progressive jpeg": lambda: encoded(IMAGE, "JPEG", quality=95, progressive=True),
    "jpeg without chroma subsampling": lambda: encoded(IMAGE, "JPEG", quality=95, subsampling=0),
    "phone jpeg (mpo)": phone_mpo,
    "png": lambda: encoded(IMAGE, "PNG"),
    "lossy webp": lambda: encoded(IMAGE, "WEBP", quality=95),
    "lossless webp": lambda: encoded(IMAGE, "WEBP", lossless=True),
    "avif": lambda: encoded(IMAGE, "AVIF", quality=90),
    "opaque rgba png": lambda: encoded(with_alpha(255), "PNG"),
    "opaque rgba webp": lambda: encoded(with_alpha(255), "WEBP", lossless=True),
    "16-bit rgb png": sixteen_bit_rgb,
    "cmyk jpeg": lambda: encoded(IMAGE.convert("CMYK"), "JPEG", quality=95),
    "jpeg with a zip behind it": lambda: encoded(IMAGE, "JPEG", quality=95) + b"PK\x03\x04" * 99,
    "jpeg with broken exif": lambda: encoded(IMAGE, "JPEG", quality=95, exif=b"Exif\0\0junk"),
    "png with a broken colour profile": lambda: encoded(IMAGE, "PNG", icc_profile=b"junk"),
}

GOOD_GREY: dict[str, Callable[[], bytes]] = {
    "grey png": lambda: encoded(GREY, "PNG"),
    "grey jpeg": lambda: encoded(GREY, "JPEG", quality=95),
    "16-bit grey png": sixteen_bit_grey,
    "opaque grey and alpha png": lambda: encoded(with_alpha(255).convert("LA"), "PNG"),
}


@pytest.mark.parametrize("kind", GOOD)
def test_every_usual_kind_of_colour_image_keeps_its_look(kind: str) -> None:
    assert psnr(read(GOOD[kind]()), np.asarray(IMAGE)) > 30


def test_a_png_with_text_without_end_is_read_without_it() -> None:
    flood = chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(10**8)))
    body = png((64, 64, 8, 2), bytes(64 * 193), flood)
    assert np.all(read(body) == 0)


@pytest.mark.parametrize("kind", GOOD_GREY)
def test_every_usual_kind_of_grey_image_keeps_its_look(kind: str) -> None:
    assert psnr(read(GOOD_GREY[kind]()), np.asarray(GREY.convert("RGB"))) > 35


def test_a_black_and_white_image_stays_black_and_white() -> None:
    drawn = IMAGE.convert("1")
    assert np.array_equal(read(encoded(drawn, "PNG")), np.asarray(drawn.convert("RGB")))


def test_a_palette_image_keeps_its_colours() -> None:
    drawn = IMAGE.quantize(64)
    assert np.array_equal(read(encoded(drawn, "PNG")), np.asarray(drawn.convert("RGB")))


@pytest.mark.parametrize(
    ("kind", "mode", "how"),
    [("PNG", "RGBA", {}), ("WEBP", "RGBA", {"lossless": True, "exact": True}), ("PNG", "LA", {})],
    ids=["rgba png", "rgba webp", "la png"],
)
def test_transparency_becomes_white_and_is_said(kind: str, mode: str, how: dict[str, Any]) -> None:
    body = encoded(with_alpha(0).convert(mode), kind, **how)
    image = read_image(body, max_pixels=MAX_PIXELS)
    assert np.all(read(body) == 255)
    assert image.warnings == ("the image's transparency was filled with white",)


def test_a_hole_in_a_palette_becomes_white() -> None:
    body = palette_with_hole()
    hole = np.asarray(Image.open(io.BytesIO(body))) == 0
    assert hole.any()
    assert np.all(read(body)[hole] == 255)


def test_an_opaque_image_brings_no_warning() -> None:
    assert read_image(GOOD["opaque rgba png"](), max_pixels=MAX_PIXELS).warnings == ()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_image_is_turned_upright(orientation: int) -> None:
    lying = Image.Exif()
    lying[0x0112] = orientation
    undo: dict[int, list[Image.Transpose]] = {
        1: [],
        2: [Image.Transpose.FLIP_LEFT_RIGHT],
        3: [Image.Transpose.ROTATE_180],
        4: [Image.Transpose.FLIP_TOP_BOTTOM],
        5: [Image.Transpose.TRANSPOSE],
        6: [Image.Transpose.ROTATE_90],
        7: [Image.Transpose.TRANSVERSE],
        8: [Image.Transpose.ROTATE_270],
    }
    stored = IMAGE
    for turn in undo[orientation]:
        stored = stored.transpose(turn)
    body = encoded(stored, "JPEG", quality=95, exif=lying)
    assert psnr(read(body), np.asarray(IMAGE)) > 30


def test_colours_come_out_as_srgb() -> None:
    # This profile exchanges the red and the green primary of sRGB.
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for old, new in ((b"rXYZ", b"????"), (b"gXYZ", b"rXYZ"), (b"????", b"gXYZ")):
        srgb = srgb.replace(old, new)
    red = Image.new("RGB", (64, 64), (255, 0, 0))
    red_of_that_profile = read(encoded(red, "PNG", icc_profile=srgb)).reshape(-1, 3).mean(axis=0)
    assert red_of_that_profile[1] > 250
    assert red_of_that_profile[0] < 5


@pytest.mark.parametrize(
    ("kind", "size"),
    [
        ("JPEG", (4400, 4100)),
        pytest.param("PNG", (2600, 2080), marks=pytest.mark.extended),
    ],
)
def test_a_large_image_is_shrunk_to_what_a_clip_can_use(kind: str, size: tuple[int, int]) -> None:
    large = IMAGE.resize(size, Image.Resampling.BILINEAR)
    image = read_image(encoded(large, kind), max_pixels=24_000_000)
    assert image.height == MAX_SHORT_SIDE
    assert image.width == round(size[0] * MAX_SHORT_SIDE / size[1])
    stored = Image.open(io.BytesIO(image.png)).resize(IMAGE.size, Image.Resampling.BOX)
    assert psnr(np.asarray(stored), np.asarray(IMAGE)) > 25


def test_nothing_of_the_file_survives_but_its_pixels() -> None:
    private = Image.Exif()
    private[0x010E] = "taken at home"
    body = encoded(IMAGE, "PNG", exif=private, dpi=(300, 300), icc_profile=b"me") + b"a tail"
    stored = read_image(body, max_pixels=MAX_PIXELS).png
    names = []
    at = 8
    while at < len(stored):
        size = int.from_bytes(stored[at : at + 4], "big")
        names.append(stored[at + 4 : at + 8])
        at += 12 + size
    assert {name for name, _ in itertools.groupby(names)} == {b"IHDR", b"IDAT", b"IEND"}


def test_the_same_pixels_have_the_same_sha256_whatever_came_with_them() -> None:
    private = Image.Exif()
    private[0x010E] = "taken at home"
    plain = read_image(encoded(IMAGE, "PNG"), max_pixels=MAX_PIXELS)
    tagged = read_image(encoded(IMAGE, "PNG", exif=private), max_pixels=MAX_PIXELS)
    assert plain.sha256 == tagged.sha256


def animated(kind: str) -> bytes:
    return encoded(IMAGE, kind, save_all=True, append_images=[IMAGE.rotate(90)], duration=100)


REFUSED: dict[str, tuple[Callable[[], bytes], type[InvalidImage], str]] = {
    "nothing": (lambda: b"", InvalidImage, "empty"),
    "text": (lambda: b"hello, I am an image", UnsupportedImage, "not an image"),
    "random bytes": (lambda: bytes(range(256)) * 64, UnsupportedImage, "not an image"),
    "gif": (lambda: encoded(IMAGE, "GIF"), UnsupportedImage, "a GIF"),
    "bmp": (lambda: encoded(IMAGE, "BMP"), UnsupportedImage, "a BMP"),
    "tiff": (lambda: encoded(IMAGE, "TIFF"), UnsupportedImage, "a TIFF"),
    "postscript": (lambda: encoded(IMAGE, "EPS"), UnsupportedImage, "PostScript"),
    "icon": (lambda: encoded(IMAGE, "ICO"), UnsupportedImage, "an icon"),
    "svg": (lambda: b'<svg xmlns="http://www.w3.org/2000/svg"/>', UnsupportedImage, "an SVG"),
    "pdf": (lambda: b"%PDF-1.7 ...", UnsupportedImage, "a PDF"),
    "heic of nothing but its first bytes": (
        lambda: b"\0\0\0\x18ftypheic" + bytes(99),
        InvalidImage,
        "damaged",
    ),
    "video": (lambda: b"\0\0\0\x18ftypisom" + bytes(99), UnsupportedImage, "a video"),
    "web page": (lambda: b"<!doctype html><p>404", UnsupportedImage, "a web page"),
    "animated webp": (lambda: animated("WEBP"), AnimatedImage, "2 frames"),
    "animated png": (lambda: animated("PNG"), AnimatedImage, "2 frames"),
    "animated avif": (lambda: animated("AVIF"), AnimatedImage, "2 frames"),
    "900-megapixel bomb": (lambda: png((30_000, 30_000, 8, 2), b""), ImageTooLarge, "900"),
    "144-megapixel bomb": (lambda: png((12_000, 12_000, 8, 2), b""), ImageTooLarge, "144"),
    "one row": (lambda: encoded(Image.new("RGB", (4000, 1)), "PNG"), InvalidImage, "at least 16"),
    "too small": (lambda: encoded(Image.new("RGB", (15, 15)), "PNG"), InvalidImage, "at least 16"),
    "too long": (lambda: encoded(Image.new("RGB", (1700, 50)), "PNG"), InvalidImage, "32 times"),
    "png without pixels": (lambda: png((64, 64, 8, 2), b""), TruncatedImage, "cut off"),
    "png of an unknown kind": (lambda: png((64, 64, 8, 9), b""), InvalidImage, "damaged"),
    "jpeg of nothing but its first bytes": (lambda: b"\xff\xd8\xff\xe0", InvalidImage, "damaged"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_no_usable_image_is_refused_with_a_reason(kind: str) -> None:
    body, error, reason = REFUSED[kind]
    with pytest.raises(InvalidImage) as refused:
        read_image(body(), max_pixels=MAX_PIXELS)
    assert (type(refused.value), refused.value.param) == (error, "image")
    assert reason in refused.value.message


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "AVIF"])
def test_a_damaged_image_is_read_or_refused_and_nothing_else(kind: str) -> None:
    random = np.random.default_rng(RNG_SEED)
    whole = np.frombuffer(encoded(IMAGE.resize((60, 40)), kind), dtype=np.uint8)
    for _ in range(60):
        damaged = whole.copy()
        places = random.integers(len(whole), size=6)
        damaged[places] ^= random.integers(1, 256, size=6, dtype=np.uint8)
        with contextlib.suppress(InvalidImage):
            read(damaged.tobytes())


@pytest.mark.parametrize(
    ("side", "scans", "is_refused"),
    [
        *((256, 50, False), (256, 90, False), (256, 200, True), (1500, 95, False)),
        pytest.param(4000, 60, False, marks=pytest.mark.extended),
        (4000, 95, True),
    ],
)
def test_a_jpeg_of_too_many_scans_is_refused_in_words(
    side: int, scans: int, is_refused: bool
) -> None:
    """Each scan is a pass over the whole image, but takes only a few bytes of the file."""
    body = jpeg_scans(side, scans)
    if not is_refused:
        assert read_image(body, max_pixels=64_000_000).width <= side
        return
    with pytest.raises(ImageOverLimits, match=r"scans.* save it again as a plain JPEG or PNG"):
        read_image(body, max_pixels=64_000_000)


def test_a_preview_or_a_film_in_a_photo_does_not_count_as_its_scans() -> None:
    plain = encoded(IMAGE, "JPEG")
    preview = b"\xff\xe1\xff\xfe" + b"\xff\xda" * ((0xFFFE - 2) // 2)
    photo = plain[:2] + preview + plain[2:] + b"\xff\xda\x00\x02" * 1000
    assert count_scans(photo) == count_scans(plain) == 1


def test_a_jpeg_of_segments_without_end_is_counted_no_further() -> None:
    assert count_scans(b"\xff\xd8" + b"\xff\xe0\x00\x02" * 8_000_000) is None


def test_a_turn_of_a_phone_is_kept_whole_and_made_shorter() -> None:
    image = read_image(encoded(Image.new("RGB", (21_000, 700)), "JPEG"), max_pixels=64_000_000)
    assert (image.width, image.height) == (20_480, 683)


def test_sixteen_bit_holes_become_white() -> None:
    wide = (np.asarray(GREY) * np.uint16(257)).astype(">u2")
    wide[:40] = 0x1234
    rows = b"".join(b"\0" + row.tobytes() for row in wide)
    body = png((*GREY.size, 16, 0), rows, chunk(b"tRNS", b"\x12\x34"))
    stored = read(body)
    assert np.all(stored[:40] == 255)
    assert psnr(stored[40:], np.asarray(GREY.convert("RGB"))[40:]) > 35
    colours = (np.asarray(IMAGE) * np.uint16(257)).astype(">u2")
    colours[:40] = (0x1234, 0x5678, 0x9ABC)
    rows = b"".join(b"\0" + row.tobytes() for row in colours)
    hole = b"\x12\x34\x56\x78\x9a\xbc"
    stored = read(png((*IMAGE.size, 16, 2), rows, chunk(b"tRNS", hole)))
    assert np.all(stored[:40] == 255)


def test_a_hole_in_few_bits_of_grey_becomes_white() -> None:
    body = png((64, 64, 2, 0), (b"\0" + b"\x1b" * 16) * 64, chunk(b"tRNS", b"\0\1"))
    assert read(body)[0, :4, 0].tolist() == [0, 255, 170, 255]


def test_heic_is_refused_in_words_where_it_cannot_be_confined() -> None:
    with pytest.raises(UnsupportedImage, match="HEIC, which is not read here: no filter; send"):
        read_image(HEIC, max_pixels=MAX_PIXELS, no_heic="no filter")


def test_the_decoders_of_heic_are_not_below_the_mends_of_their_faults() -> None:
    assert heif.missing() is None
    good = {"libheif": "1.23.4", "decoders": {"libde265": "libde265 HEVC decoder, version 1.1.3"}}
    assert heif.below_floor(good) is None
    for older in (
        good | {"libheif": "1.23.3"},
        good | {"decoders": {"libde265": "libde265 HEVC decoder, version 1.1.2"}},
        good | {"decoders": {}},
        {},
    ):
        assert "lib" in str(heif.below_floor(older))


@pytest.mark.parametrize("brand", [b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1"])
def test_every_brand_of_heif_is_the_image(brand: bytes) -> None:
    assert np.array_equal(read(HEIC[:8] + brand + HEIC[12:]), read(HEIC))


def test_a_heic_that_was_cut_off_is_refused() -> None:
    for sixteenths in range(1, 16):
        with pytest.raises(InvalidImage):
            read(HEIC[: len(HEIC) * sixteenths // 16])
