"""Any file from another server becomes the requested clip, or a named error."""

from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from tests.support.elsewhere import FPS, FRAMES, HEIGHT, WIDTH, moving, request
from worker.engines.base import Frames, Notes, Unkept
from worker.engines.remote.conform import conformed
from worker.engines.remote.errors import ResultUnusable


def clip(
    path: Path,
    *,
    codec: str = "libx264",
    kind: str = "mp4",
    count: int = FRAMES,
    fps: int = FPS,
    size: tuple[int, int] = (WIDTH, HEIGHT),
    options: dict[str, str] | None = None,
) -> Path:
    with av.open(str(path), "w", format=kind) as made:
        stream = made.add_stream(codec, rate=fps, options=options or {})
        stream.width, stream.height = size
        stream.pix_fmt = "yuv420p"
        for pixels in moving(count, width=size[0], height=size[1]):
            made.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        made.mux(stream.encode())
    return path


def conform(path: Path, notes: Notes | None = None) -> Frames:
    asked = request(Unkept()).parameters
    return np.concatenate(list(conformed(path, asked, notes or Notes())))


@pytest.mark.parametrize(
    "made",
    [
        {"codec": "libx265", "options": {"x265-params": "log-level=none"}},
        {"codec": "libvpx-vp9"},
        {"codec": "mpeg4"},
        {"kind": "mov"},
        {"size": (192, 128)},
        {"size": (64, 96)},
        {"count": 30, "fps": 30},
    ],
    ids=str,
)
def test_another_codec_size_or_rate_becomes_what_was_asked_for(
    made: dict[str, Any], tmp_path: Path
) -> None:
    notes = Notes()
    frames = conform(clip(tmp_path / "clip.mp4", **made), notes)
    assert frames.shape == (FRAMES, HEIGHT, WIDTH, 3)
    assert np.all(np.diff(frames.mean(axis=(1, 2, 3))) > 0), "each frame in its place"
    assert len(notes.warnings) == (made.get("size") == (64, 96) or "fps" in made)


def audio(path: Path) -> None:
    with av.open(str(path), "w", format="mp4") as made:
        stream = made.add_stream("aac", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.float32), "fltp", "mono")
        frame.sample_rate, frame.pts = 8000, 0
        made.mux(stream.encode(frame))
        made.mux(stream.encode())


NO_CLIPS: dict[str, Any] = {
    "empty": lambda path: path.write_bytes(b""),
    "html": lambda path: path.write_bytes(b"<html>" * 100),
    "half": lambda path: path.write_bytes(clip(path).read_bytes()[:900]),
    "webm": lambda path: clip(path, codec="libvpx-vp9", kind="webm"),
    "sound alone": audio,
    "no frames": lambda path: clip(path, count=0),
    "one frame": lambda path: clip(path, count=1),
}


@pytest.mark.parametrize("kind", NO_CLIPS)
def test_what_is_no_clip_or_too_short_is_refused(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    NO_CLIPS[kind](path)
    with pytest.raises(ResultUnusable, match=r"not an MP4|no video track|too short") as caught:
        conform(path)
    assert str(tmp_path) not in caught.value.message
