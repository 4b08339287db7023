"""The files that represent a clip before it is played: poster, GIF and sprite sheet."""

import io
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import PIL.Image

from shared.errors import BadVideo
from worker.engines.base import Image
from worker.ffmpeg import Ffmpeg
from worker.video.check import VideoFacts
from worker.video.writer import THREADS

GIF_SIDE: Final = 480
GIF_FPS: Final = 50  # Browsers show a delay below 2/100 s as 10/100.
TILE_SIDE: Final = 256

_RESIZE_FLAGS: Final = "flags=lanczos+accurate_rnd+full_chroma_int"


@dataclass(frozen=True)
class SpriteSheet:
    """All frames of a clip in one WebP, row by row from the top left; spare tiles are black."""

    image: bytes
    columns: int
    rows: int
    tile_width: int
    tile_height: int
    num_frames: int


def poster(frame: Image) -> bytes:
    """Return a frame as WebP, in its own size."""
    file = io.BytesIO()
    PIL.Image.fromarray(frame).save(file, "WEBP", quality=85, method=4)
    return file.getvalue()


def gif(path: Path, facts: VideoFacts) -> bytes:
    """Return the clip as a GIF that loops for ever, its long side at most `GIF_SIDE`.

    Raises:
        BadVideo: ffmpeg failed or stalled.
    """
    width, height = _within(GIF_SIDE, facts)
    scaled = f"fps={min(facts.fps, GIF_FPS)},scale={width}:{height}:{_RESIZE_FLAGS}"
    # For a photo: 34.2 dB; error diffusion gave 32.8 dB and a larger file.
    palette = "palettegen[p];[b][p]paletteuse=dither=bayer:bayer_scale=4"
    graph = f"[0:v]{scaled},split[a][b];[a]{palette}"
    return _render(path, [*("-lavfi", graph), *("-loop", "0", "-f", "gif")])


def sprite_sheet(path: Path, facts: VideoFacts) -> SpriteSheet:
    """Return every frame of the clip as a tile whose long side is at most `TILE_SIDE`.

    Raises:
        BadVideo: ffmpeg failed or stalled.
    """
    width, height = _within(TILE_SIDE, facts)
    columns = math.ceil(math.sqrt(facts.num_frames))
    rows = math.ceil(facts.num_frames / columns)
    graph = f"scale={width}:{height}:{_RESIZE_FLAGS},format=rgb24,tile={columns}x{rows}"
    pixels = _render(path, ["-vf", graph, "-f", "rawvideo"])
    shape = (rows * height, columns * width, 3)
    if len(pixels) != math.prod(shape):
        raise BadVideo(f"the sprite sheet's {len(pixels)} bytes do not fill its shape, {shape}")
    return SpriteSheet(
        image=poster(np.frombuffer(pixels, np.uint8).reshape(shape)),
        columns=columns,
        rows=rows,
        tile_width=width,
        tile_height=height,
        num_frames=facts.num_frames,
    )


def _within(side: int, facts: VideoFacts) -> tuple[int, int]:
    scale = min(1.0, side / max(facts.width, facts.height))
    return max(1, round(facts.width * scale)), max(1, round(facts.height * scale))


def _render(path: Path, output: list[str]) -> bytes:
    with Ffmpeg(
        [
            *("-threads", str(THREADS), "-protocol_whitelist", "file", "-f", "mov"),
            *("-i", f"file:{path.name}", "-threads", "1", *output, "pipe:1"),
        ],
        folder=path.parent,
    ) as ffmpeg:
        return ffmpeg.finish()
