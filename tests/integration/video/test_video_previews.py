"""Poster, GIF and sprite sheet show the clip they were made from."""

import io
from pathlib import Path

import numpy as np
import PIL.Image
import PIL.ImageSequence
import pytest

from shared.errors import BadVideo
from tests.support.clips import moving_clip, psnr, resized, write_clip
from worker.engines.base import Frames, Image
from worker.video.check import VideoFacts, check_video
from worker.video.previews import GIF_SIDE, TILE_SIDE, gif, poster, sprite_sheet


@pytest.mark.parametrize(("width", "height"), [(512, 384), (127, 95)])
def test_a_poster_is_a_webp_of_the_frame_in_its_own_size(width: int, height: int) -> None:
    frame = moving_clip(1, width=width, height=height)[0]

    with _opened(poster(frame)) as image:
        assert (image.format, image.size) == ("WEBP", (width, height))
        assert psnr(frame, _rgb(image)) >= 32


def test_a_poster_is_smaller_than_the_frame_as_png() -> None:
    frame = moving_clip(1, width=512, height=384)[0]
    png = io.BytesIO()
    PIL.Image.fromarray(frame).save(png, "PNG")

    assert len(poster(frame)) < len(png.getvalue()) / 4


@pytest.mark.parametrize("num_frames", [1, 8, 17])
def test_a_gif_shows_every_frame_and_loops_for_ever(tmp_path: Path, num_frames: int) -> None:
    frames = moving_clip(num_frames)

    with _opened(gif(*_clip(tmp_path, frames))) as image:
        seen = [_rgb(frame) for frame in PIL.ImageSequence.Iterator(image)]
        assert image.info.get("loop") == 0

    assert len(seen) == num_frames
    assert min(psnr(a, b) for a, b in zip(frames, seen, strict=True)) >= 28


@pytest.mark.parametrize(("fps", "num_frames"), [(1, 8), (8, 8), (12, 24), (30, 30)])
def test_a_gif_takes_as_long_as_its_clip(tmp_path: Path, fps: int, num_frames: int) -> None:
    with _opened(gif(*_clip(tmp_path, moving_clip(num_frames), fps=fps))) as image:
        shown = [frame.info["duration"] for frame in PIL.ImageSequence.Iterator(image)]

    assert sum(shown) == pytest.approx(1000 * num_frames / fps, abs=1000 / fps)
    assert len(shown) == num_frames


def test_a_gif_of_a_quick_clip_stays_within_what_browsers_play(tmp_path: Path) -> None:
    with _opened(gif(*_clip(tmp_path, moving_clip(30), fps=60))) as image:
        shown = [frame.info["duration"] for frame in PIL.ImageSequence.Iterator(image)]

    assert min(shown) >= 20
    assert sum(shown) == pytest.approx(500, abs=40)


@pytest.mark.parametrize(
    ("width", "height", "size"),
    [
        (128, 96, (128, 96)),
        (640, 480, (GIF_SIDE, 360)),
        (480, 640, (360, GIF_SIDE)),
        (1000, 64, (GIF_SIDE, 31)),
    ],
)
def test_a_gif_is_never_larger_than_a_page_wants(
    tmp_path: Path, width: int, height: int, size: tuple[int, int]
) -> None:
    frames = moving_clip(3, width=width, height=height)

    with _opened(gif(*_clip(tmp_path, frames))) as image:
        assert image.size == size


@pytest.mark.parametrize(
    ("num_frames", "columns", "rows"),
    [(1, 1, 1), (2, 2, 1), (8, 3, 3), (16, 4, 4), (17, 5, 4), (24, 5, 5), (32, 6, 6)],
)
def test_a_sprite_sheet_holds_every_frame_in_its_place(
    tmp_path: Path, num_frames: int, columns: int, rows: int
) -> None:
    frames = moving_clip(num_frames)

    sheet = sprite_sheet(*_clip(tmp_path, frames))

    assert (sheet.columns, sheet.rows, sheet.num_frames) == (columns, rows, num_frames)
    assert (sheet.tile_width, sheet.tile_height) == (128, 96)
    with _opened(sheet.image) as image:
        assert (image.format, image.size) == ("WEBP", (columns * 128, rows * 96))
        tiles = _tiles(_rgb(image), 128, 96)
    likeness = np.array([[psnr(a, b) for b in frames] for a in tiles[:num_frames]])
    assert likeness.argmax(axis=1).tolist() == list(range(num_frames))
    assert likeness.diagonal().min() >= 27
    assert all(tile.mean() <= 2 for tile in tiles[num_frames:])


@pytest.mark.parametrize(
    ("width", "height", "tile"), [(640, 480, (256, 192)), (480, 640, (192, 256))]
)
def test_tiles_are_small_and_keep_the_clips_shape(
    tmp_path: Path, width: int, height: int, tile: tuple[int, int]
) -> None:
    frames = moving_clip(4, width=width, height=height)

    sheet = sprite_sheet(*_clip(tmp_path, frames))

    assert (sheet.tile_width, sheet.tile_height) == tile
    assert max(tile) == TILE_SIDE
    with _opened(sheet.image) as image:
        seen = _tiles(_rgb(image), *tile)
    assert min(psnr(resized(a, *tile), b) for a, b in zip(frames, seen, strict=True)) >= 28


@pytest.mark.parametrize("make", [gif, sprite_sheet])
def test_a_clip_that_is_gone_gives_no_preview(tmp_path: Path, make: object) -> None:
    path, facts = _clip(tmp_path, moving_clip())
    path.unlink()

    assert callable(make)
    with pytest.raises(BadVideo, match="No such file"):
        make(path, facts)


def _clip(folder: Path, frames: Frames, *, fps: int = 8) -> tuple[Path, VideoFacts]:
    path = write_clip(folder / "clip.mp4", frames, fps=fps)
    num_frames, height, width, _ = frames.shape
    facts = check_video(
        path, width=width, height=height, num_frames=num_frames, fps=fps, allow_one_colour=False
    )
    return path, facts


def _opened(data: bytes) -> PIL.Image.Image:
    return PIL.Image.open(io.BytesIO(data))


def _rgb(image: PIL.Image.Image) -> Image:
    return np.asarray(image.convert("RGB"))


def _tiles(sheet: Image, width: int, height: int) -> list[Image]:
    """Return a sheet's tiles, row by row from the top left."""
    return [
        sheet[top : top + height, left : left + width]
        for top in range(0, sheet.shape[0], height)
        for left in range(0, sheet.shape[1], width)
    ]
