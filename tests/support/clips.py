"""Clips for the video tests: a real photo in motion, and the result of an independent decoder."""

from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
import PIL.Image
from skimage import data

from worker.engines.base import Frames, Image
from worker.video.metadata import Tags
from worker.video.writer import Mp4Writer


@cache
def photo() -> PIL.Image.Image:
    return PIL.Image.fromarray(data.astronaut())


def moving_clip(num_frames: int = 8, *, width: int = 128, height: int = 96) -> Frames:
    """Return a zoom with a drift over a photo, so that no two frames are alike."""
    side, longest = photo().width, max(width, height)
    frames = []
    for index in range(num_frames):
        span = side * (0.9 - 0.1 * index / num_frames)
        left, top = (side - span) / 2 + index, (side - span) / 3
        box = (left, top, left + span * width / longest, top + span * height / longest)
        frames.append(photo().resize((width, height), PIL.Image.Resampling.LANCZOS, box=box))
    return np.stack([np.asarray(frame) for frame in frames])


def flat_clip(levels: list[int], *, width: int = 64, height: int = 64) -> Frames:
    """Return one flat grey frame per level."""
    return np.stack([np.full((height, width, 3), level, np.uint8) for level in levels])


def write_clip(path: Path, frames: Frames, *, fps: int = 8, tags: Tags | None = None) -> Path:
    _, height, width, _ = frames.shape
    with Mp4Writer(path, width=width, height=height, fps=fps, tags=tags or Tags({})) as writer:
        writer.write(frames)
    return path


@dataclass(frozen=True)
class Probe:
    codec: str
    pixel_format: str
    width: int
    height: int
    fps: Fraction
    num_frames: int
    times: list[Fraction]
    keyframes: list[int]
    colour: tuple[int, int, int, int]
    metadata: dict[str, str]


def probe(path: Path) -> Probe:
    """Read a video with PyAV's own ffmpeg libraries."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        frames = list(container.decode(stream))
        context = stream.codec_context
        tick = stream.time_base or Fraction(0)
        return Probe(
            codec=context.name,
            pixel_format=str(context.pix_fmt),
            width=context.width,
            height=context.height,
            fps=Fraction(stream.average_rate or 0),
            num_frames=len(frames),
            times=[Fraction(frame.pts or 0) * tick for frame in frames],
            keyframes=[index for index, frame in enumerate(frames) if frame.key_frame],
            colour=(
                int(context.colorspace),
                int(context.color_primaries),
                int(context.color_trc),
                int(context.color_range),
            ),
            metadata=dict(container.metadata),
        )


def decode_rgb(path: Path, *, chroma_column: float = 0.0) -> npt.NDArray[np.float64]:
    """Return the frames as RGB by the BT.709 formulas themselves, of limited range.

    Args:
        chroma_column: the position of the colour between two columns; 0 is on the left one.
    """
    with av.open(str(path)) as container:
        frames = [frame.to_ndarray(format="yuv420p") for frame in container.decode(video=0)]
    return np.stack([_to_rgb(frame, chroma_column) for frame in frames])


def psnr(a: npt.ArrayLike, b: npt.ArrayLike) -> float:
    """Return the similarity of two images in dB, of 255 levels."""
    error = float(np.mean((np.asarray(a, np.float64) - np.asarray(b, np.float64)) ** 2))
    return float(10 * np.log10(255**2 / max(error, 1e-12)))


def resized(frame: Image, width: int, height: int) -> Image:
    size = (width, height)
    return np.asarray(PIL.Image.fromarray(frame).resize(size, PIL.Image.Resampling.LANCZOS))


def _to_rgb(planes: npt.NDArray[np.uint8], chroma_column: float) -> npt.NDArray[np.float64]:
    height, width = planes.shape[0] * 2 // 3, planes.shape[1]
    luma, chroma = planes[:height], planes[height:].reshape(2, height // 2, width // 2)
    blue, red = (_double(_double(plane, 0, 0.5), 1, chroma_column) - 128 for plane in chroma)
    y = (luma - 16.0) * 255 / 219
    r, b = y + 1.5748 * red * 255 / 224, y + 1.8556 * blue * 255 / 224
    return np.clip(np.stack([r, (y - 0.2126 * r - 0.0722 * b) / 0.7152, b], -1), 0, 255)


def _double(
    plane: npt.NDArray[np.uint8] | npt.NDArray[np.float64], axis: int, offset: float
) -> npt.NDArray[np.float64]:
    size = plane.shape[axis]
    position = (np.arange(2 * size) - offset) / 2
    below = np.floor(position).astype(int)
    weight = np.expand_dims(position - below, 1 - axis)
    low = np.take(plane, np.clip(below, 0, size - 1), axis).astype(np.float64)
    high = np.take(plane, np.clip(below + 1, 0, size - 1), axis).astype(np.float64)
    result: npt.NDArray[np.float64] = low * (1 - weight) + high * weight
    return result
