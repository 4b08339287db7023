"""Frames in, an H.264 MP4 out: streamed into one ffmpeg, chunk by chunk."""

import tempfile
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import numpy as np

from shared.errors import BadVideo
from worker.engines.base import Frames, Image
from worker.ffmpeg import STALL_SECONDS, Ffmpeg
from worker.video.metadata import Tags

THREADS: Final = 2

GOP: Final = 64
"""Frames from one keyframe to the next: more than a clip has. A keyframe is coded again, which a
still image shows as a pulse (1.4 of 255 levels, while its other frames differ by 0.01). So seeking
decodes at most 31 frames."""

# Players assume BT.709 and left-sited chroma for H.264. ffmpeg's own default centres the chroma,
# which costs a photo 1.5 dB. Without full_chroma_inp it uses the colour of only every second
# column (0.5 dB), and without accurate_rnd it darkens by 0.1 level.
_TO_YUV: Final = (
    "scale=in_range=full:out_range=limited:out_color_matrix=bt709:out_chroma_loc=left"
    ":flags=bicubic+accurate_rnd+full_chroma_inp,format=yuv420p"
    # The encoder writes the frames' own tags; -color_primaries and similar options were ignored.
    ",setparams=colorspace=bt709:color_primaries=bt709:color_trc=bt709:range=limited"
)

# 16 frames of 512 x 512 on two cores: veryfast 0.13 s and 237 kB, medium 0.23 s and 237 kB,
# ultrafast 0.12 s and 717 kB. At crf 17 a photo comes back at 37 dB; 4:2:0 alone allows 41.
_X264: Final = ("-c:v", "libx264", "-preset", "veryfast", "-crf", "17")


def coded_size(width: int, height: int) -> tuple[int, int]:
    """Return the size of an MP4 of such frames: 4:2:0 has only even sides."""
    return width + width % 2, height + height % 2


class Mp4Writer:
    """Writes one MP4 that starts playing before it has fully arrived.

    Frames are written as they come, so no clip is held in memory. An odd side gets its last row or
    column twice (see `coded_size`). As a context manager it closes on success and aborts on an
    error. After `close` the file belongs to the caller; until then a failure removes it.
    """

    def __init__(
        self,
        path: Path,
        *,
        width: int,
        height: int,
        fps: int,
        tags: Tags,
        threads: int = THREADS,
        stall_seconds: float = STALL_SECONDS,
    ) -> None:
        self.path = path
        self.num_frames = 0
        self._shape = (height, width, 3)
        self._is_closed = False
        coded_width, coded_height = coded_size(width, height)
        self._margin = ((0, coded_height - height), (0, coded_width - width), (0, 0))
        # Without a name, because a prompt must not be in argv.
        with tempfile.TemporaryFile() as tag_file:
            tag_file.write(tags.as_ffmetadata())
            tag_file.seek(0)
            self._ffmpeg = Ffmpeg(
                [
                    *("-protocol_whitelist", "pipe", "-f", "rawvideo", "-pix_fmt", "rgb24"),
                    *("-video_size", f"{coded_width}x{coded_height}", "-framerate", str(fps)),
                    *("-i", "pipe:0"),
                    *("-protocol_whitelist", "pipe", "-f", "ffmetadata"),
                    *("-i", f"pipe:{tag_file.fileno()}"),
                    *("-map", "0:v", "-map_metadata", "1", "-vf", _TO_YUV, *_X264),
                    *("-g", str(GOP), "-threads", str(threads)),
                    *("-movflags", "+faststart", "-f", "mp4", "-y", f"file:{path.name}"),
                ],
                folder=path.parent,
                stall_seconds=stall_seconds,
                pass_fds=[tag_file.fileno()],
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            self.close()
        else:
            self.abort()

    def write(self, frames: Frames) -> None:
        """Append frames of the size given at the start, uint8 RGB.

        Raises:
            BadVideo: the frames are of another kind, or ffmpeg died or stalled.
        """
        if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[1:] != self._shape:
            self.abort()
            raise BadVideo(
                f"the engine gave {frames.dtype} frames of shape {frames.shape};"
                f" right would be uint8 (n, {', '.join(map(str, self._shape))})"
            )
        try:
            for frame in frames:
                self._ffmpeg.write(self._raw(frame))
                self.num_frames += 1
        except BaseException:
            self.abort()
            raise

    def close(self) -> None:
        """Wait until the MP4 is complete; a second call does nothing.

        Raises:
            BadVideo: ffmpeg failed or stalled, or there were no frames.
        """
        if self._is_closed:
            return
        try:
            if not self.num_frames:
                raise BadVideo("the engine gave no frames")
            self._ffmpeg.finish()
        except BaseException:
            self.abort()
            raise
        self._is_closed = True

    def abort(self) -> None:
        """End ffmpeg and remove the unfinished file, also twice; it does nothing after `close`."""
        if not self._is_closed:
            self._is_closed = True
            self._ffmpeg.kill()
            self.path.unlink(missing_ok=True)

    def _raw(self, frame: Image) -> memoryview:
        if any(after for _, after in self._margin):
            frame = np.pad(frame, self._margin, mode="edge")
        return np.ascontiguousarray(frame).data.cast("B")
