"""The MP4 writer with the real ffmpeg; another decoder reads the clips."""

import struct
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from shared.errors import BadVideo
from tests.support.clips import decode_rgb, moving_clip, probe, psnr, write_clip
from worker.video.metadata import Tags
from worker.video.writer import Mp4Writer, coded_size


def test_a_clip_is_h264_that_every_player_knows(tmp_path: Path) -> None:
    found = probe(write_clip(tmp_path / "clip.mp4", moving_clip()))

    assert (found.codec, found.pixel_format) == ("h264", "yuv420p")


@pytest.mark.parametrize("fps", [1, 8, 12, 60])
@pytest.mark.parametrize("num_frames", [1, 8, 17])
def test_every_frame_is_shown_for_exactly_one_tick(
    tmp_path: Path, fps: int, num_frames: int
) -> None:
    found = probe(write_clip(tmp_path / "clip.mp4", moving_clip(num_frames), fps=fps))

    assert found.fps == fps
    assert found.times == [Fraction(index, fps) for index in range(num_frames)]


def test_frames_may_come_in_any_chunks(tmp_path: Path) -> None:
    frames = moving_clip(7)
    whole = write_clip(tmp_path / "whole.mp4", frames)

    with _writer(tmp_path / "chunks.mp4") as writer:
        for chunk in (frames[:1], frames[1:1], frames[1:6], frames[6:]):
            writer.write(chunk)

    assert writer.num_frames == 7
    assert writer.path.read_bytes() == whole.read_bytes()


def test_frames_may_be_a_view_of_something_larger(tmp_path: Path) -> None:
    frames = moving_clip()
    whole = write_clip(tmp_path / "whole.mp4", frames)
    padded = np.zeros((8, 100, 140, 3), np.uint8)
    padded[:, 2:98, 6:134] = frames

    view = write_clip(tmp_path / "view.mp4", padded[:, 2:98, 6:134])

    assert view.read_bytes() == whole.read_bytes()


def test_playing_starts_before_the_file_has_arrived(tmp_path: Path) -> None:
    atoms = _atoms(write_clip(tmp_path / "clip.mp4", moving_clip()).read_bytes())

    assert atoms.index("moov") < atoms.index("mdat")


def test_a_still_image_does_not_pulse(tmp_path: Path) -> None:
    frames = np.repeat(moving_clip(1, width=512, height=512), 32, axis=0)

    seen = decode_rgb(write_clip(tmp_path / "clip.mp4", frames, fps=12))

    assert max(np.abs(b - a).mean() for a, b in pairwise(seen)) <= 0.2  # of 255 levels


def test_colours_come_back_as_they_went_in(tmp_path: Path) -> None:
    frames = moving_clip(8, width=512, height=512)

    seen = decode_rgb(write_clip(tmp_path / "clip.mp4", frames))

    assert min(psnr(a, b) for a, b in zip(frames, seen, strict=True)) >= 35


def test_colours_lie_where_players_look_for_them(tmp_path: Path) -> None:
    frames = moving_clip(2, width=512, height=512)
    path = write_clip(tmp_path / "clip.mp4", frames)

    on_the_left, in_the_middle = decode_rgb(path), decode_rgb(path, chroma_column=0.5)

    assert psnr(frames, on_the_left) > psnr(frames, in_the_middle) + 0.2


def test_fine_stripes_keep_their_colour_from_afar(tmp_path: Path) -> None:
    frames = np.zeros((2, 96, 96, 3), np.uint8)
    for column, colour in enumerate([(255, 0, 0), (0, 0, 255), (0, 255, 0)]):
        frames[:, :, column::3] = colour

    seen = decode_rgb(write_clip(tmp_path / "clip.mp4", frames))

    assert np.abs(seen.mean((0, 1, 2)) - 85).max() <= 4


@pytest.mark.parametrize(
    "colour",
    [(0, 0, 0), (255, 255, 255), (255, 0, 0), (0, 255, 0), (0, 0, 255), (200, 120, 40)],
)
def test_a_flat_colour_comes_back_within_two_levels(
    tmp_path: Path, colour: tuple[int, int, int]
) -> None:
    frames = np.broadcast_to(np.array(colour, np.uint8), (4, 64, 64, 3))

    seen = decode_rgb(write_clip(tmp_path / "clip.mp4", frames))

    assert np.abs(seen - colour).max() <= 2


def test_the_file_says_which_colours_it_uses(tmp_path: Path) -> None:
    bt709, bt709_primaries, bt709_transfer, limited = 1, 1, 1, 1

    found = probe(write_clip(tmp_path / "clip.mp4", moving_clip()))

    assert found.colour == (bt709, bt709_primaries, bt709_transfer, limited)


@pytest.mark.parametrize(("width", "height"), [(127, 96), (128, 95), (127, 95), (65, 65)])
def test_an_odd_side_repeats_its_last_line(tmp_path: Path, width: int, height: int) -> None:
    frames = moving_clip(4, width=width, height=height)

    seen = decode_rgb(write_clip(tmp_path / "clip.mp4", frames))

    assert seen.shape[2:0:-1] == coded_size(width, height)
    assert psnr(frames, seen[:, :height, :width]) >= 30
    last_row, last_column = frames[:, -1], frames[:, :, -1]
    assert psnr(last_row, seen[:, -1, :width]) >= 27
    assert psnr(last_column, seen[:, :height, -1]) >= 27


@pytest.mark.parametrize(
    "frames",
    [
        np.zeros((2, 96, 128, 3), np.float32),
        np.zeros((2, 128, 96, 3), np.uint8),
        np.zeros((96, 128, 3), np.uint8),
        np.zeros((2, 96, 128, 4), np.uint8),
    ],
    ids=["floats", "turned", "one image", "with alpha"],
)
def test_frames_of_another_kind_are_refused(
    tmp_path: Path, frames: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]
) -> None:
    with (
        pytest.raises(BadVideo, match=r"right would be uint8 \(n, 96, 128, 3\)"),
        _writer(tmp_path / "clip.mp4") as writer,
    ):
        writer.write(frames)

    assert list(tmp_path.iterdir()) == []


def test_a_clip_without_frames_is_refused(tmp_path: Path) -> None:
    with (
        pytest.raises(BadVideo, match="no frames"),
        _writer(tmp_path / "clip.mp4"),
    ):
        pass

    assert list(tmp_path.iterdir()) == []


def test_an_error_while_rendering_leaves_no_file(tmp_path: Path) -> None:
    def render() -> None:
        with _writer(tmp_path / "clip.mp4") as writer:
            writer.write(moving_clip())
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        render()

    assert list(tmp_path.iterdir()) == []


def test_aborting_twice_is_as_good_as_once(tmp_path: Path) -> None:
    writer = _writer(tmp_path / "clip.mp4")
    writer.write(moving_clip())

    writer.abort()
    writer.abort()

    assert list(tmp_path.iterdir()) == []


def test_a_finished_clip_survives_a_late_abort(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "whole.mp4", moving_clip())
    writer = _writer(tmp_path / "clip.mp4")
    writer.write(moving_clip())
    writer.close()

    writer.close()
    writer.abort()

    assert writer.path.read_bytes() == path.read_bytes()


def _writer(path: Path) -> Mp4Writer:
    return Mp4Writer(path, width=128, height=96, fps=8, tags=Tags({}))


def _atoms(data: bytes) -> list[str]:
    """Return the names of an MP4's outermost boxes, in order."""
    names, at = [], 0
    while at < len(data):
        size, name = struct.unpack_from(">I4s", data, at)
        names.append(name.decode())
        at += size
    return names
