"""An image with all its pixels is read, whatever else in its file is broken or missing."""

from typing import Any

import numpy as np
import pytest

from api.images.normalize import read_image
from shared.errors.images import (
    InvalidImage,
    TruncatedImage,
)
from tests.support.bombs import chunk
from tests.support.gateway import encoded
from tests.unit.test_images import GREY, IMAGE, MAX_PIXELS, read


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "AVIF"])
def test_an_image_that_was_cut_off_is_told_so(kind: str) -> None:
    body = encoded(IMAGE, kind)
    for sixteenths in range(1, 16):
        with pytest.raises(TruncatedImage):
            read_image(body[: len(body) * sixteenths // 16], max_pixels=MAX_PIXELS)


SCANS: dict[str, dict[str, Any]] = {
    "baseline": {},
    "optimised": {"optimize": True},
    "progressive": {"progressive": True},
    "restarts": {"restart_marker_blocks": 3},
    "grey": {},
}


TRAILERS: dict[str, bytes] = {
    "nothing": b"",
    "text": b"made by a phone" * 9,
    "zeros": bytes(999),
    "markers": b"\xff\xe1\xff\xff\xff\xda\x12\x34" * 40,
    "a second image": encoded(GREY, "JPEG"),
    "samsung": b"\0\0\x01\x0a\x0e\0\0\0Image_UTC_DataSEFHj\0\0\0\x18\0\0\0SEFT",
}


@pytest.mark.parametrize("trailer", TRAILERS)
@pytest.mark.parametrize("kind", SCANS)
def test_a_jpeg_of_all_its_pixels_needs_no_end_marker(kind: str, trailer: str) -> None:
    source = GREY if kind == "grey" else IMAGE
    whole = encoded(source, "JPEG", quality=90, **SCANS[kind])
    assert np.array_equal(read(whole[:-2] + TRAILERS[trailer]), read(whole))


@pytest.mark.parametrize("kind", SCANS)
@pytest.mark.parametrize("missing", [3, 4, 9, 40, 300, 2000])
def test_a_jpeg_whose_last_pixels_are_missing_is_refused(kind: str, missing: int) -> None:
    source = GREY if kind == "grey" else IMAGE
    whole = encoded(source, "JPEG", quality=90, **SCANS[kind])
    with pytest.raises(TruncatedImage):
        read(whole[: -2 - missing])


def test_a_progressive_jpeg_without_its_last_scans_is_refused() -> None:
    whole = encoded(IMAGE, "JPEG", quality=90, progressive=True)
    with pytest.raises(TruncatedImage):
        read(whole[: whole.rindex(b"\xff\xda")])


def crooked(name: bytes, content: bytes) -> bytes:
    """Return a chunk whose checksum is wrong."""
    return chunk(name, content)[:-4] + b"oops"


@pytest.mark.parametrize("name", [b"pHYs", b"tIME", b"iTXt", b"zTXt", b"iCCP", b"eXIf", b"gAMA"])
def test_a_chunk_that_is_not_needed_may_be_broken(name: bytes) -> None:
    whole = encoded(IMAGE, "PNG")
    for side_chunk in (crooked(name, b"junk"), crooked(name, bytes(300_000))):
        body = whole[:33] + side_chunk + whole[33:]
        assert np.array_equal(read(body), np.asarray(IMAGE))


def test_a_chunk_that_is_needed_may_not_be_broken() -> None:
    whole = encoded(IMAGE.quantize(16), "PNG")
    palette = whole.index(b"PLTE") - 4
    size = 12 + int.from_bytes(whole[palette : palette + 4], "big")
    body = whole[: palette + size - 4] + b"oops" + whole[palette + size :]
    with pytest.raises(InvalidImage):
        read(body)


@pytest.mark.parametrize("missing", [4, 12, 16])
def test_a_png_of_all_its_pixels_needs_no_end(missing: int) -> None:
    assert np.array_equal(read(encoded(IMAGE, "PNG")[:-missing]), np.asarray(IMAGE))
