"""From a remote server's file to the frames that the job asked for."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Final

import numpy as np

from shared.engines.parameters import RenderParameters
from shared.errors import BadVideo
from worker.engines.base import Frames, Notes
from worker.engines.remote.errors import ResultUnusable
from worker.ffmpeg import Ffmpeg

CHUNK: Final = 8
MOST_FRAMES: Final = 4096
MOST_PIXELS: Final = 7680 * 4320
"""Of one frame, because a file of a few bytes may make its decoder use any amount of memory."""

HELD_SHARE: Final = 0.1
"""The share that may be missing at the end, because of rounding; the last frame is held for it."""

_LIMITS: Final = ("-threads", "2", "-max_pixels", str(MOST_PIXELS), "-protocol_whitelist", "file")
_SCALE: Final = "flags=lanczos+accurate_rnd+full_chroma_int"
_TIME_BASE: Final = re.compile(rb"^#tb 0: (\d+)/(\d+)$", re.MULTILINE)
_SIZE: Final = re.compile(rb"^#dimensions 0: (\d+)x(\d+)$", re.MULTILINE)
_FRAME: Final = re.compile(rb"^0,", re.MULTILINE)


@dataclass(frozen=True)
class Given:
    """The facts about a file, found by decoding all of it."""

    width: int
    height: int
    fps: Fraction
    num_frames: int


def look_into(path: Path) -> Given:
    """Decode the whole file, up to `MOST_FRAMES`.

    Raises:
        ResultUnusable: it is not an MP4 with video, or is damaged.
    """
    counted = ["-map", "0:v:0", "-fps_mode", "cfr", "-frames:v", str(MOST_FRAMES)]
    try:
        with _ffmpeg(path, [*counted, "-f", "framecrc", "pipe:1"]) as ffmpeg:
            said = ffmpeg.finish()
    except BadVideo as error:
        raise ResultUnusable(
            f"the result is not an MP4 that can be read: {error.message}"
        ) from error
    base, size = _TIME_BASE.search(said), _SIZE.search(said)
    num_frames = len(_FRAME.findall(said))
    if base is None or size is None or not num_frames:
        raise ResultUnusable("the result has no video track")
    fps = Fraction(int(base[2]), int(base[1]))
    return Given(int(size[1]), int(size[2]), fps, num_frames)


def conformed(path: Path, asked: RenderParameters, notes: Notes) -> Iterator[Frames]:
    """Yield exactly the frames that were asked for, and note each change that was needed.

    If the rate or the number of frames is as asked, each frame stays as it is; otherwise the clip
    is resampled at the rate asked for. Another size is scaled to fill, and its overhang is cropped
    evenly.

    Raises:
        ResultUnusable: it cannot be read, or is too short.
    """
    given = look_into(path)
    _note(given, asked, notes)
    is_one_to_one = given.fps == asked.fps or given.num_frames == asked.num_frames
    there = given.num_frames if is_one_to_one else int(given.num_frames / given.fps * asked.fps)
    missing = asked.num_frames - there
    if missing > max(1, HELD_SHARE * asked.num_frames):
        raise ResultUnusable(
            f"the result is too short: {given.num_frames} frames at {float(given.fps):g} a second,"
            f" but {asked.num_frames} at {asked.fps} were asked for"
        )
    yield from _whole(_frames(path, given, asked, one_to_one=is_one_to_one), asked, notes)


def _frames(
    path: Path, given: Given, asked: RenderParameters, *, one_to_one: bool
) -> Iterator[Frames]:
    filters = [] if one_to_one else [f"fps={asked.fps}"]
    if (given.width, given.height) != (asked.width, asked.height):
        size = f"{asked.width}:{asked.height}"
        filters += [
            f"scale={size}:force_original_aspect_ratio=increase:{_SCALE}",
            f"crop={size}",
        ]
    filters += [f"scale={_SCALE}", "format=rgb24"]
    shape = (asked.height, asked.width, 3)
    frame_bytes = asked.height * asked.width * 3
    arguments = ["-map", "0:v:0", "-vf", ",".join(filters), "-fps_mode", "passthrough"]
    with _ffmpeg(path, [*arguments, "-f", "rawvideo", "pipe:1"]) as ffmpeg:
        for first in range(0, asked.num_frames, CHUNK):
            count = min(CHUNK, asked.num_frames - first)
            read = ffmpeg.read(count * frame_bytes)
            whole = len(read) // frame_bytes
            if whole:
                pixels = np.frombuffer(read, np.uint8, whole * frame_bytes)
                yield pixels.reshape(whole, *shape)
            if whole < count:
                return


def _whole(frames: Iterator[Frames], asked: RenderParameters, notes: Notes) -> Iterator[Frames]:
    """Yield the frames, and the last one again for those that are missing."""
    count, last = 0, None
    for chunk in frames:
        count, last = count + len(chunk), chunk[-1:]
        yield chunk
    if last is None:
        raise ResultUnusable("the result has no video track")
    if missing := asked.num_frames - count:
        notes.warn(f"the last frame is held in place of {missing} missing frames")
        yield np.repeat(last, missing, axis=0)


def _note(given: Given, asked: RenderParameters, notes: Notes) -> None:
    notes.fact("frames_rendered", given.num_frames)
    notes.fact("fps_rendered", round(float(given.fps), 3))
    notes.fact("size_rendered", f"{given.width}x{given.height}")
    if given.fps != asked.fps:
        notes.warn(f"it was rendered at {float(given.fps):g} frames a second, not at {asked.fps}")
    if given.width * asked.height != given.height * asked.width:
        notes.warn(
            f"it was rendered at {given.width}x{given.height}; it was cropped to"
            f" {asked.width}x{asked.height}"
        )


def _ffmpeg(path: Path, arguments: list[str]) -> Ffmpeg:
    return Ffmpeg(
        [*_LIMITS, "-f", "mov", "-i", f"file:{path.name}", *arguments], folder=path.parent
    )
