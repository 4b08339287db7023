"""A clip is checked by decoding it before anyone may download it."""

import hashlib
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from shared.errors import BadVideo, BlankFrames
from tests.support.clips import flat_clip, moving_clip, photo, write_clip
from worker.engines.base import Frames
from worker.video.check import VideoFacts, check_video, is_one_colour


def test_the_facts_of_a_good_clip_are_all_there(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.mp4", moving_clip(12), fps=8)

    facts = _check(path, num_frames=12)

    data = path.read_bytes()
    assert facts == VideoFacts(
        width=128,
        height=96,
        fps=8,
        num_frames=12,
        duration_seconds=1.5,
        bytes=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
    )


def test_the_facts_of_an_odd_clip_are_the_coded_ones(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.mp4", moving_clip(width=127, height=95))

    facts = _check(path, width=127, height=95)

    assert (facts.width, facts.height) == (128, 96)


@pytest.mark.parametrize("num_frames", [1, 7, 9])
def test_a_clip_with_a_frame_too_few_or_too_many_is_bad(tmp_path: Path, num_frames: int) -> None:
    path = write_clip(tmp_path / "clip.mp4", moving_clip(8))

    with pytest.raises(BadVideo, match=rf"frames came out as 8; it should be {num_frames}"):
        _check(path, num_frames=num_frames)


@pytest.mark.parametrize(("width", "height"), [(126, 96), (128, 98), (96, 128)])
def test_a_clip_of_another_size_is_bad(tmp_path: Path, width: int, height: int) -> None:
    path = write_clip(tmp_path / "clip.mp4", moving_clip())

    with pytest.raises(BadVideo, match="size"):
        _check(path, width=width, height=height)


def test_a_clip_at_another_rate_is_bad(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.mp4", moving_clip(), fps=12)

    with pytest.raises(BadVideo, match="frames per second came out as 12; it should be 8"):
        _check(path)


def test_a_clip_that_stutters_is_bad(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    _write_at(path, moving_clip(), [0, 1, 2, 3, 4, 6, 7, 8])

    with pytest.raises(BadVideo):
        _check(path)


def test_the_same_clip_without_the_stutter_is_good(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    _write_at(path, moving_clip(), [0, 1, 2, 3, 4, 5, 6, 7])

    assert _check(path).num_frames == 8


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.999])
def test_a_truncated_clip_is_bad(tmp_path: Path, share: float) -> None:
    path = write_clip(tmp_path / "clip.mp4", moving_clip())
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])

    with pytest.raises(BadVideo):
        _check(path)


def test_a_damaged_clip_is_bad(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.mp4", moving_clip(16, width=256, height=256))
    data = bytearray(path.read_bytes())
    middle = slice(len(data) // 2, len(data) // 2 + 2000)
    data[middle] = bytes(len(data[middle]))
    path.write_bytes(data)

    with pytest.raises(BadVideo):
        _check(path, width=256, height=256, num_frames=16)


def test_what_is_no_video_is_bad(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    path.write_text("#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n")

    with pytest.raises(BadVideo, match="ffmpeg failed"):
        _check(path)


def test_a_message_names_no_path(tmp_path: Path) -> None:
    with pytest.raises(BadVideo) as caught:
        _check(tmp_path / "missing.mp4")

    assert str(tmp_path) not in str(caught.value)
    assert "No such file" in str(caught.value)


@pytest.mark.parametrize("level", [0, 128, 255])
def test_a_clip_of_one_colour_is_blank(tmp_path: Path, level: int) -> None:
    path = write_clip(tmp_path / "clip.mp4", flat_clip([level] * 8))

    with pytest.raises(BlankFrames):
        _check(path, width=64, height=64)


def test_a_clip_that_flickers_between_flat_frames_is_blank(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.mp4", flat_clip([0, 40, 80, 120, 160, 200, 240, 255]))

    with pytest.raises(BlankFrames):
        _check(path, width=64, height=64)


def test_a_flat_clip_of_a_flat_image_is_good(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.mp4", flat_clip([128] * 8))

    assert _check(path, width=64, height=64, allow_one_colour=True).num_frames == 8


def test_a_clip_with_one_frame_of_image_is_not_blank(tmp_path: Path) -> None:
    frames = flat_clip([0] * 8, width=128, height=96)
    frames[5] = moving_clip()[5]

    assert _check(write_clip(tmp_path / "clip.mp4", frames)).num_frames == 8


def test_a_clip_with_image_only_in_its_colours_is_not_blank(tmp_path: Path) -> None:
    frames = flat_clip([0] * 8, width=128, height=96)
    # The two colours have equal luma.
    frames[:, :, :64], frames[:, :, 64:] = (203, 64, 64), (64, 91, 203)

    assert _check(write_clip(tmp_path / "clip.mp4", frames)).num_frames == 8


def _noise(levels: int) -> Frames:
    frames = np.random.default_rng(1).integers(0, levels + 1, (2, 64, 64, 3))
    return (100 + frames).astype(np.uint8)


@pytest.mark.parametrize(
    ("frames", "is_flat"),
    [
        (flat_clip([7, 7]), True),
        (flat_clip([7, 200]), True),
        (_noise(8), True),
        (_noise(9), False),
        (np.asarray(photo())[None], False),
        (np.asarray(photo().point(lambda level: level // 8))[None], False),
    ],
    ids=["flat", "flicker", "coding noise", "more than noise", "a photo", "a dark photo"],
)
def test_flat_means_eight_levels_or_fewer(frames: Frames, is_flat: bool) -> None:
    assert is_one_colour(frames) is is_flat


def _check(
    path: Path,
    *,
    width: int = 128,
    height: int = 96,
    num_frames: int = 8,
    allow_one_colour: bool = False,
) -> VideoFacts:
    return check_video(
        path,
        width=width,
        height=height,
        num_frames=num_frames,
        fps=8,
        allow_one_colour=allow_one_colour,
    )


def _write_at(path: Path, frames: Frames, ticks: list[int]) -> None:
    """Write frames at given eighths of a second, with PyAV."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=8, options={"bf": "0"})
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        for tick, pixels in zip(ticks, frames, strict=True):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = tick, Fraction(1, 8)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
