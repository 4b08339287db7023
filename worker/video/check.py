"""The content of a finished MP4, found by decoding all of it."""

import hashlib
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from shared.errors import BadVideo, BlankFrames
from worker.engines.base import Frames
from worker.ffmpeg import Ffmpeg
from worker.video.writer import THREADS, coded_size

ONE_COLOUR_LEVELS: Final = 8
"""How far apart, of 255, the levels of one flat frame may be: coding noise, not an image."""

_FRAME_MARK: Final = b"FRAME\n"


@dataclass(frozen=True)
class VideoFacts:
    """The facts about a checked MP4. Its sides are the coded, even ones; `sha256` is in hex."""

    width: int
    height: int
    fps: int
    num_frames: int
    duration_seconds: float
    bytes: int
    sha256: str


@dataclass(frozen=True)
class _Decoded:
    width: int
    height: int
    fps: Fraction
    num_frames: int
    is_one_colour: bool


def check_video(
    path: Path,
    *,
    width: int,
    height: int,
    num_frames: int,
    fps: int,
    allow_one_colour: bool,
) -> VideoFacts:
    """Decode the whole MP4 and return its facts.

    Args:
        width: the width of the frames; the file must have their `coded_size`.
        allow_one_colour: the image itself is flat, so a flat clip is right.

    Raises:
        BadVideo: it does not decode, or has another size, rate or number of frames.
        BlankFrames: every frame is one flat colour.
    """
    found = _decode(path)
    for what, is_, should_be in (
        ("size", (found.width, found.height), coded_size(width, height)),
        ("frames per second", found.fps, Fraction(fps)),
        ("number of frames", found.num_frames, num_frames),
    ):
        if is_ != should_be:
            raise BadVideo(f"the clip's {what} came out as {is_}; it should be {should_be}")
    if found.is_one_colour and not allow_one_colour:
        raise BlankFrames(
            "every frame came out as one flat colour; try another seed or a lower guidance_scale"
        )
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    return VideoFacts(
        width=found.width,
        height=found.height,
        fps=fps,
        num_frames=num_frames,
        duration_seconds=num_frames / fps,
        bytes=path.stat().st_size,
        sha256=sha256,
    )


def is_one_colour(frames: Frames) -> bool:
    """Say whether each frame is flat: no channel spans more than `ONE_COLOUR_LEVELS`.

    Frames may differ from each other: a flicker of flat frames shows no image either.
    """
    return all(_is_flat(frame[..., channel]) for frame in frames for channel in range(3))


def _decode(path: Path) -> _Decoded:
    with Ffmpeg(
        [
            # Any damage ends the decoding; otherwise ffmpeg would conceal it and continue.
            *("-xerror", "-err_detect", "explode", "-threads", str(THREADS)),
            *("-protocol_whitelist", "file", "-f", "mov", "-i", f"file:{path.name}"),
            # At a constant rate a frame out of step is doubled or dropped, and counted.
            *("-map", "0:v", "-fps_mode", "cfr", "-f", "yuv4mpegpipe", "pipe:1"),
        ],
        folder=path.parent,
    ) as ffmpeg:
        width, height, fps = _read_header(ffmpeg)
        num_frames, flat = 0, True
        while mark := ffmpeg.read(len(_FRAME_MARK)):
            frame = ffmpeg.read(width * height * 3 // 2)
            if mark != _FRAME_MARK or len(frame) < width * height * 3 // 2:
                break
            num_frames += 1
            flat = flat and _is_flat_yuv(frame, width * height)
        ffmpeg.finish()
    return _Decoded(width, height, fps, num_frames, flat)


def _read_header(ffmpeg: Ffmpeg) -> tuple[int, int, Fraction]:
    """Return width, height and frames per second from YUV4MPEG's first line."""
    line = bytearray()
    while not line.endswith(b"\n"):
        letter = ffmpeg.read(1)
        if not letter:
            ffmpeg.finish()  # This line says why there is no video.
            raise BadVideo("the clip has no video track")
        line += letter
    fields = {field[0]: field[1:] for field in reversed(line.decode().split())}
    if not fields["C"].startswith("420"):
        raise BadVideo(f"the clip's pixels came out as {fields['C']}; they should be 4:2:0")
    numerator, denominator = fields["F"].split(":")
    return int(fields["W"]), int(fields["H"]), Fraction(int(numerator), int(denominator))


def _is_flat_yuv(frame: bytes, luma: int) -> bool:
    samples = np.frombuffer(frame, np.uint8)
    return all(
        _is_flat(plane) for plane in np.split(samples, [luma, luma + luma // 4]) if plane.size
    )


def _is_flat(plane: npt.NDArray[np.uint8]) -> bool:
    return int(plane.max()) - int(plane.min()) <= ONE_COLOUR_LEVELS
