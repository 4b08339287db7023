"""An image with small faults that browsers overlook is read; odd kinds are refused by name."""

import io
import struct
import zlib
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from api.images.colour.space import PRIMARIES, profile, srgb_to_light
from api.images.normalize import read_image
from api.images.sniff import looks_like
from shared.errors.images import InvalidImage, TruncatedImage, UnsupportedImage
from tests.support import makers
from tests.support.bombs import chunk
from tests.support.gateway import encoded
from tests.support.heif_boxes import clap, irot, with_properties
from tests.support.photos import Photo, cat

IMAGE = Image.fromarray(cat()).resize((240, 160))
LOOK = np.asarray(IMAGE)
LEVELS = 4.0
JPEG = encoded(IMAGE, "JPEG", quality=95)
PNG = encoded(IMAGE, "PNG")
WEBP = encoded(IMAGE, "WEBP", quality=95)
NOTED_WEBP = encoded(IMAGE, "WEBP", quality=95, exif=b"Exif\0\0" + bytes(999))
BEHIND_JFIF = 20
OUT_OF_PLACE = chunk(
    b"iCCP", b"p3\0\0" + zlib.compress(profile(PRIMARIES[12], srgb_to_light))
) + chunk(b"gAMA", struct.pack(">I", 100_000))


def read(body: bytes) -> Photo:
    image = read_image(body, max_pixels=2_000_000)
    return np.asarray(Image.open(io.BytesIO(image.png)))


def distance(body: bytes, look: Photo = LOOK) -> float:
    return float(np.abs(read(body).astype(float) - look.astype(float)).mean())


def with_segment(marker: int, content: bytes) -> bytes:
    return (
        JPEG[:2] + bytes((0xFF, marker)) + struct.pack(">H", len(content) + 2) + content + JPEG[2:]
    )


def with_stray(stray: bytes) -> bytes:
    return JPEG[:BEHIND_JFIF] + stray + JPEG[BEHIND_JFIF:]


def crooked(whole: bytes) -> bytes:
    """Return a chunk whose checksum is wrong."""
    return whole[:-4] + b"oops"


def behind_header(*chunks: bytes) -> bytes:
    return PNG[:33] + b"".join(chunks) + PNG[33:]


def before_end(*chunks: bytes) -> bytes:
    return PNG[:-12] + b"".join(chunks) + PNG[-12:]


def narrow() -> bytes:
    """Return a PNG with codes from 16 to 235, and a `cICP` chunk that says so."""
    codes = np.round(16 + LOOK / 255 * 219).astype(np.uint8)
    whole = encoded(Image.fromarray(codes), "PNG")
    return whole[:33] + chunk(b"cICP", b"\x01\x0d\0\0") + whole[33:]


def declared_longer(webp: bytes, more: int) -> bytes:
    return webp[:4] + struct.pack("<I", len(webp) - 8 + more) + webp[8:]


OVERLOOKED: dict[str, Callable[[], bytes]] = {
    "an Adobe note that is too short": lambda: with_segment(0xEE, b"Adobe"),
    "a JFIF note that is too short": lambda: with_segment(0xE0, b"JFIF"),
    "a profile without a number": lambda: with_segment(0xE2, b"ICC_PROFILE\0"),
    "stray bytes between segments": lambda: with_stray(b"\0\x01stray\0"),
    "zeros between segments": lambda: with_stray(bytes(60)),
    "a webp that is longer by its own words": lambda: declared_longer(WEBP, 2),
    "a webp whose last note is cut": lambda: NOTED_WEBP[:-20],
    "a wrong checksum in acTL": lambda: behind_header(
        crooked(chunk(b"acTL", struct.pack(">II", 2, 0)))
    ),
    "a short acTL": lambda: behind_header(chunk(b"acTL", b"\0")),
    "a wrong checksum in fcTL": lambda: behind_header(crooked(chunk(b"fcTL", bytes(26)))),
    "a wrong checksum in tRNS": lambda: behind_header(crooked(chunk(b"tRNS", bytes(6)))),
    "colours told behind the pixels": lambda: before_end(OUT_OF_PLACE),
    "codes of films": narrow,
}


@pytest.mark.parametrize("fault", OVERLOOKED)
def test_a_fault_that_browsers_overlook_costs_no_image(fault: str) -> None:
    assert distance(OVERLOOKED[fault]()) <= LEVELS


def test_colours_told_behind_a_palette_come_too_late() -> None:
    palette = IMAGE.quantize(64)
    whole = encoded(palette, "PNG")
    at = whole.index(b"IDAT") - 4
    late = whole[:at] + OUT_OF_PLACE + whole[at:]
    assert np.array_equal(read(late), np.asarray(palette.convert("RGB")))


@pytest.mark.parametrize("missing", [40, 300, 2000])
def test_a_webp_whose_pixels_are_cut_is_refused(missing: int) -> None:
    for whole in (WEBP, encoded(IMAGE, "WEBP", lossless=True)):
        with pytest.raises(TruncatedImage):
            read(whole[:-missing])


def frame(marker: int, content: bytes) -> bytes:
    at = JPEG.index(b"\xff\xc0")
    return JPEG[:at] + bytes((0xFF, marker)) + JPEG[at + 2 : at + 4] + content + JPEG[at + 10 :]


def for_iphones() -> bytes:
    """Return a PNG as Xcode packs it: its pixels are deflated without a header, blue first."""
    packer = zlib.compressobj(wbits=-15)
    rows = b"".join(b"\0" + row.tobytes() for row in LOOK[..., ::-1])
    at = PNG.index(b"IDAT") - 4
    packed = chunk(b"IDAT", packer.compress(rows) + packer.flush())
    return PNG[:8] + chunk(b"CgBI", b"\x50\0\x20\x02") + PNG[8:at] + packed + PNG[-12:]


UNUSUAL: dict[str, tuple[bytes, str]] = {
    "h.264": (b"\0\0\0\x14ftypavci\0\0\0\0mif1", "a HEIF of another codec than HEVC"),
    "12 bits": (frame(0xC1, b"\x0c\0\xa0\0\xf0\x03"), "a JPEG of 12 bits a channel"),
    "lossless": (frame(0xC3, b"\x08\0\xa0\0\xf0\x03"), "a lossless JPEG"),
    "layers": (frame(0xC5, b"\x08\0\xa0\0\xf0\x03"), "a JPEG of several layers"),
    "two channels": (frame(0xC0, b"\x08\0\xa0\0\xf0\x02"), "a JPEG of 2 channels"),
    "height behind": (frame(0xC0, b"\x08\0\0\0\xf0\x03"), "a JPEG whose height stands behind"),
    "jpeg-ls": (frame(0xF7, b"\x08\0\xa0\0\xf0\x03"), "a JPEG-LS"),
    "iphone": (for_iphones(), r"a PNG that Xcode has packed for an iPhone \(CgBI\)"),
}


@pytest.mark.parametrize("kind", UNUSUAL)
def test_a_kind_of_a_known_format_that_is_not_read_is_called_by_its_name(kind: str) -> None:
    body, name = UNUSUAL[kind]
    with pytest.raises(UnsupportedImage, match=f"this is {name}.*save it again as a plain JPEG"):
        read(body)


NAMED: list[tuple[bytes, str]] = [
    (b"\0\0\0\x0cjP  \r\n\x87\n", "a JPEG 2000"),
    (b"\xff\x4f\xff\x51\0", "a JPEG 2000"),
    (b"II+\0\x08\0\0\0", "a TIFF"),
    (b"II*\0\x10\0\0\0CR\x02\0", "a camera's RAW file"),
    (b"II*\0\x08\0\0\0\1\0\x12\xc6" + bytes(14), "a camera's RAW file"),
    (b"MM\0*\0\0\0\x08\0\2\x01\x0f" + bytes(10) + b"\x01\x4a" + bytes(14), "a camera's RAW"),
    (b"MM\0*\0\0\0\x08\0\2\x01\x0f" + bytes(10) + b"\x01\x1a" + bytes(14), "a TIFF"),
    (b"\0\0\2\0\0\0\0\0\0\0", "a TGA"),
    (b"\x0a\x05\x01\x08", "a PCX"),
    (b"\0\x05\x16\x07\0\2\0\0", "what macOS keeps beside a file"),
    (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "XML, like the error of"),
    (b'<?xml version="1.0"?><svg/>', "an SVG"),
    (b'[{"error": "not found"}]', "JSON"),
    (b"\0\0\0\x18ftypcrx \0\0\0\x01crx isom", "a camera's RAW file"),
    (b"FUJIFILMCCD-RAW 0201", "a camera's RAW file"),
    (b"II\xbc\x01", "a JPEG XR"),
    (b"\0\0\x01\0\x01\0", "an icon"),
    (b"icns\0\0", "an icon"),
    (b"%!PS-Adobe-3.0 EPSF", "PostScript"),
    (b"gimp xcf v011", "a GIMP file"),
    (b"P6\n240 160\n255\n", "a PNM"),
    (b"qoif\0\0\0\xf0", "a QOI"),
    (b"v/1\x01\x02", "an OpenEXR"),
    (b"#?RADIANCE\n", "a Radiance HDR"),
    (bytes(128) + b"DICM", "a DICOM file"),
    (b"\x1aE\xdf\xa3", "a video"),
    (b"\0\0\0\x08wide\0\0\0\0mdat", "a video"),
    (b"ID3\x04", "a sound"),
    (b"\x1f\x8b\x08", "a gzip archive"),
    (b"Rar!\x1a\x07\0", "an archive"),
    (b"\n\n <!DOCTYPE html><html>", "a web page"),
    (b"\xef\xbb\xbf<html>", "a web page"),
    (b"<!--" + b"x" * 900 + b'--><svg xmlns="http://www.w3.org/2000/svg"/>', "an SVG"),
    (b'{"error": "not found"}', "JSON"),
    (b"data:image/png;base64,AAAA", "a data URI in a file"),
    (b"iVBORw0KGgoAAAANSUhEUg", "base64 in a file"),
    (b"version https://git-lfs.github.com/spec/v1", "a pointer of Git LFS in place of the file"),
    (b"\r\n" + JPEG, "a JPEG behind other bytes"),
    (b"\xef\xbb\xbf" + JPEG, "a JPEG behind other bytes"),
    (JPEG.decode("utf-8", "replace").encode(), "an image whose bytes were changed as if"),
    (JPEG.decode("latin-1").encode(), "an image whose bytes were changed as if"),
    (PNG.decode("utf-8", "replace").encode(), "an image whose bytes were changed as if"),
    (PNG.replace(b"\r\n", b"\n"), "an image whose bytes were changed as if"),
]


@pytest.mark.parametrize(("body", "name"), NAMED, ids=lambda it: it if isinstance(it, str) else "")
def test_what_is_no_image_of_ours_is_called_by_its_name(body: bytes, name: str) -> None:
    with pytest.raises(InvalidImage, match=f"this looks like {name}.*; send a JPEG, PNG, WEBP"):
        read(body)


def test_an_image_with_the_words_of_another_kind_in_its_head_is_still_what_it_is() -> None:
    noted = with_segment(0xFE, b"<?xml version='1.0'?><svg/>")
    assert looks_like(noted) == "JPEG"
    hole = IMAGE.quantize(64)
    body = encoded(hole, "PNG", transparency=0)
    said = body[:33] + chunk(b"tEXt", b"a\0<?xml?><svg/>") + body[33:]
    assert np.array_equal(read(said), read(body))


def test_a_colour_that_a_palette_has_not_is_its_last_one_as_in_browsers() -> None:
    drawn = IMAGE.quantize(16)
    whole = encoded(drawn, "PNG", bits=8)
    at = whole.index(b"PLTE") - 4
    end = at + 12 + int.from_bytes(whole[at : at + 4], "big")
    colours = whole[at + 8 : at + 8 + 30]
    shown = read(whole[:at] + chunk(b"PLTE", colours) + whole[end:])
    beyond = np.asarray(drawn) > 9
    assert beyond.any()
    assert np.all(shown[beyond] == [*colours[-3:]])
    right = np.asarray(drawn.convert("RGB"))
    assert np.array_equal(shown[~beyond], right[~beyond])


def adam7(look: Photo) -> bytes:
    """Return a PNG in seven passes; the coarse ones come first."""
    passes = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2)]
    rows = b"".join(
        b"\0" + row.tobytes()
        for left, top, across, down in (*passes, (0, 1, 1, 2))
        for row in look[top::down, left::across]
    )
    header = struct.pack(">IIBBBBB", look.shape[1], look.shape[0], 8, 2, 0, 0, 1)
    return PNG[:8] + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + PNG[-12:]


def test_a_png_in_passes_is_read_and_called_cut_off_where_it_is() -> None:
    whole = adam7(LOOK)
    assert np.array_equal(read(whole), LOOK)
    for share in (0.3, 0.66, 0.95):
        with pytest.raises(TruncatedImage):
            read(whole[: int(len(whole) * share)])


def orientation_in_xmp(value: int) -> bytes:
    text = f'<x:xmpmeta><rdf:Description tiff:Orientation="{value}"/></x:xmpmeta>'
    return b"http://ns.adobe.com/xap/1.0/\0" + text.encode()


def test_an_orientation_that_only_xmp_names_is_left_behind_as_browsers_do() -> None:
    assert distance(with_segment(0xE1, orientation_in_xmp(6))) <= LEVELS


AVIF = encoded(IMAGE, "AVIF", quality=95, subsampling="4:4:4")


@pytest.mark.parametrize(
    ("properties", "look"),
    [
        ([clap(120, 80, -60, -40)], LOOK[:80, :120]),
        ([clap(120, 80, 60, 40)], LOOK[80:, 120:]),
        ([clap(120, 80, -60, -40), irot(1)], np.rot90(LOOK[:80, :120])),
        ([irot(1)], np.rot90(LOOK)),
        ([clap(240, 160, 0, 0)], LOOK),
        ([clap(241, 160, 0, 0)], LOOK),
        ([clap(120, 80, -61, -40)], LOOK),
        ([clap(121, 80, 0, 0)], LOOK),
        ([clap(8, 8, 0, 0)], LOOK),
        ([clap(0, 0, 0, 0)], LOOK),
    ],
    ids=["first", "last", "turned", "all", "whole", "larger", "outside", "half", "tiny", "none"],
)
def test_of_an_avif_the_part_is_shown_that_it_names(properties: list[bytes], look: Photo) -> None:
    assert distance(with_properties(AVIF, *properties), look) <= LEVELS


PHOTO = np.asarray(makers.IMAGE)
P3_CODES = np.asarray(makers.P3())
P3 = profile(PRIMARIES[12], srgb_to_light)
HALF = len(P3) // 2
WHOLE_PROFILE = (1, 1, P3)
FIRST, SECOND = (1, 2, P3[:HALF]), (2, 2, P3[HALF:])


def with_profile(*parts: tuple[int, int, bytes], before: bytes) -> bytes:
    """Return a JPEG with parts of a profile before a marker: number, count and bytes of each."""
    body = makers.jpeg(makers.P3())
    segments = b"".join(
        makers.segment(0xE2, b"ICC_PROFILE\0" + bytes((number, count)) + part)
        for number, count, part in parts
    )
    at = body.index(before)
    return body[:at] + segments + body[at:]


@pytest.mark.parametrize("before", [b"\xff\xdb", b"\xff\xc0", b"\xff\xda"])
@pytest.mark.parametrize(
    "parts", [[WHOLE_PROFILE], [WHOLE_PROFILE] * 2, [FIRST, SECOND], [SECOND, FIRST]]
)
def test_a_jpegs_profile_counts_wherever_and_however_often_it_is_there(
    parts: list[tuple[int, int, bytes]], before: bytes
) -> None:
    assert distance(with_profile(*parts, before=before), PHOTO) <= LEVELS


def test_a_part_of_a_profile_is_no_profile() -> None:
    for part in (FIRST, SECOND):
        assert distance(with_profile(part, before=b"\xff\xda"), P3_CODES) <= LEVELS


TOLD: dict[str, tuple[list[bytes], Photo]] = {
    "of two gammas the first": ([makers.gamma(0.45455), makers.gamma(1.0)], P3_CODES),
    "of two profiles the first": (
        [chunk(b"iCCP", b"a\0\0" + zlib.compress(P3)), chunk(b"iCCP", b"b\0\0junk")],
        PHOTO,
    ),
    "no gamma with a wrong checksum": ([crooked(makers.gamma(1.0))], P3_CODES),
    "no code points that say nothing": (
        [chunk(b"cICP", b"\2\2\0\1"), chunk(b"iCCP", b"a\0\0" + zlib.compress(P3))],
        PHOTO,
    ),
}


@pytest.mark.parametrize("name", TOLD)
def test_of_what_a_png_says_of_its_colours_that_is_believed_which_browsers_believe(
    name: str,
) -> None:
    chunks, look = TOLD[name]
    assert distance(makers.png(makers.P3(), *chunks), look) <= 1


@pytest.mark.parametrize(
    ("space", "is_adobe"), [(1, False), (2, True), (65535, True), (None, True)]
)
def test_a_camera_that_says_srgb_means_it(space: int | None, is_adobe: bool) -> None:
    camera = {} if space is None else {0xA001: space}
    exif = makers.tagged("Canon", camera=camera, interoperability="R03")
    codes = makers.ADOBE()
    body = makers.jpeg(codes, exif=exif)
    assert distance(body, PHOTO if is_adobe else np.asarray(codes)) <= LEVELS
