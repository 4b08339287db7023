"""How an image is fitted into a clip's frame."""

import itertools

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image as PillowImage

from shared.engines.spec import Fit
from tests.support import photos
from tests.support.matrix import in_turn
from worker.engines.framing import frame_image, place

SIZES = [(512, 512), (768, 512), (512, 768), (910, 512), (514, 386), (64, 64), (1820, 1024)]
SOURCES = [(64, 64), (65, 47), (1, 1), (2049, 1153), (300, 1201), (1001, 1000)]
PAIRS = list(itertools.product(SOURCES, SIZES))


def ramp(width: int, height: int) -> npt.NDArray[np.uint8]:
    """Return an image with the x of each pixel's centre in red and the y in green, 0 to 255."""
    x = (np.arange(width) + 0.5) / width * 255
    y = (np.arange(height) + 0.5) / height * 255
    red, green = np.meshgrid(x, y)
    return np.stack([red, green, np.zeros_like(red)], axis=-1).round().astype(np.uint8)


@pytest.mark.parametrize(("pair", "fit"), in_turn(PAIRS, tuple(Fit)))
def test_a_frame_has_exactly_the_size_asked_for(
    pair: tuple[tuple[int, int], tuple[int, int]], fit: Fit
) -> None:
    source, size = pair
    image = np.full((source[1], source[0], 3), 200, dtype=np.uint8)
    frame = frame_image(image, width=size[0], height=size[1], fit=fit)
    assert frame.shape == (size[1], size[0], 3)
    assert frame.dtype == np.uint8
    assert frame.flags.c_contiguous


@pytest.mark.parametrize(("size", "source"), in_turn(SIZES, SOURCES))
def test_a_crop_fills_the_frame_to_its_last_pixel(
    size: tuple[int, int], source: tuple[int, int]
) -> None:
    white = np.full((source[1], source[0], 3), 255, dtype=np.uint8)
    assert frame_image(white, width=size[0], height=size[1], fit=Fit.CROP).min() == 255


@pytest.mark.parametrize("fit", Fit)
def test_nothing_is_stretched(fit: Fit) -> None:
    for source, size in PAIRS:
        placement = place(*source, width=size[0], height=size[1], fit=fit)
        left, top, right, bottom = placement.box
        assert (right - left) / (bottom - top) == pytest.approx(
            placement.width / placement.height, rel=1e-9
        ), (source, size)
        assert 0 <= left < right <= source[0]
        assert 0 <= top < bottom <= source[1]


@pytest.mark.parametrize("source", [(640, 400), (401, 640), (333, 500)])
def test_a_crop_is_centred_to_a_fraction_of_a_pixel(source: tuple[int, int]) -> None:
    frame = frame_image(ramp(*source), width=256, height=256, fit=Fit.CROP).astype(float)
    mirrored = 255 - frame[::-1, ::-1, :2]
    assert np.abs(frame[..., :2] - mirrored).max() <= 1


@pytest.mark.parametrize(("width", "height"), [(512, 512), (512, 300), (256, 640)])
def test_padding_shows_the_whole_image_between_equal_black_bars(width: int, height: int) -> None:
    frame = frame_image(photos.coffee() // 2 + 64, width=width, height=height, fit=Fit.PAD)
    lit = frame.max(axis=-1) > 0
    rows, columns = np.flatnonzero(lit.any(axis=1)), np.flatnonzero(lit.any(axis=0))
    assert rows[0] == height - 1 - rows[-1]
    assert columns[0] == width - 1 - columns[-1]
    assert lit[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all()
    shown = (columns.size / rows.size) / 1.5
    assert shown == pytest.approx(1, abs=2.1 / min(rows.size, columns.size))
    assert columns.size == width or rows.size == height


def test_padding_gives_up_less_than_one_row_under_each_bar() -> None:
    placement = place(600, 401, width=512, height=512, fit=Fit.PAD)
    assert placement.width == 512
    row = 600 / 512
    assert 0 <= placement.box[1] < row
    assert 0 <= 401 - placement.box[3] < row
    assert placement.box[0] == 0


def test_the_same_size_leaves_every_pixel_as_it_was() -> None:
    image = photos.astronaut()
    assert np.array_equal(frame_image(image, width=512, height=512, fit=Fit.CROP), image)


def test_fine_stripes_shrink_to_grey_without_moire() -> None:
    stripes = np.zeros((1024, 1024, 3), dtype=np.uint8)
    stripes[:, ::2] = 255
    frame = frame_image(stripes, width=200, height=200, fit=Fit.CROP)
    assert frame[:, 4:-4].std() < 2
    assert frame.mean() == pytest.approx(127.5, abs=2)


def test_an_image_that_is_not_contiguous_is_read_as_it_looks() -> None:
    image = photos.coffee()
    turned = frame_image(image[:, ::-1], width=300, height=200, fit=Fit.CROP)
    plain = frame_image(image[:, ::-1].copy(), width=300, height=200, fit=Fit.CROP)
    assert np.array_equal(turned, plain)


def test_a_photo_is_resampled_with_lanczos() -> None:
    image = photos.coffee()
    expected = PillowImage.fromarray(image).resize((300, 200), PillowImage.Resampling.LANCZOS)
    assert np.array_equal(
        frame_image(image, width=300, height=200, fit=Fit.CROP), np.asarray(expected)
    )


def test_blur_lays_the_whole_image_over_its_own_blur() -> None:
    image = photos.photo("coffee.png", short_side=200)
    padded = frame_image(image, width=512, height=512, fit=Fit.PAD)
    blurred = frame_image(image, width=512, height=512, fit=Fit.BLUR)
    placement = place(image.shape[1], image.shape[0], width=512, height=512, fit=Fit.BLUR)
    assert placement == place(image.shape[1], image.shape[0], width=512, height=512, fit=Fit.PAD)
    inside = slice(placement.top, placement.top + placement.height)
    assert np.array_equal(blurred[inside], padded[inside])
    bar = blurred[: placement.top].astype(int)
    assert padded[: placement.top].max() == 0
    assert abs(bar.mean() - image.mean()) < 60
    assert np.abs(np.diff(bar, axis=1)).max() < 12, "nothing sharp is left in a bar"


def test_a_focus_is_a_place_in_the_part_that_is_shown() -> None:
    image = np.zeros((100, 200, 3), np.uint8)
    square = place(200, 100, width=64, height=64, fit=Fit.CROP)
    assert square.fractions(0.5, 0.25, image=image) == pytest.approx((0.5, 0.25))
    assert square.fractions(0.3, 0.9, image=image) == pytest.approx((0.1, 0.9))
    assert square.fractions(0.0, 0.0, image=image) == (0.0, 0.0)
