"""One frame of our own clip as a PNG, by ffmpeg in a process with limits.

The PNG is then decoded like any image that a client sends.
"""

import resource
import subprocess
from contextlib import suppress
from typing import Final

import structlog
from imageio_ffmpeg import get_ffmpeg_exe

from shared.errors import Unavailable

MEMORY_BYTES: Final = 2 * 1024**3
CPU_SECONDS: Final = 30
WALL_SECONDS: Final = 60.0
"""The largest clip, 32 frames of 3072 x 3072, takes 3 s of a core and 0.6 GiB (x86-64)."""

_log = structlog.get_logger(__name__)


def clip_frame(mp4: bytes, index: int) -> bytes:
    """Return frame `index` of a clip, counted from 0, as a PNG.

    Raises:
        Unavailable: ffmpeg gave no frame within its limits.
    """
    # It reads no file and writes none; no text of a client is among its arguments.
    process = subprocess.Popen(
        [
            *(get_ffmpeg_exe(), "-hide_banner", "-nostdin", "-loglevel", "error"),
            *("-threads", "1", "-protocol_whitelist", "pipe", "-f", "mov", "-i", "pipe:0"),
            *("-map", "0:v:0", "-vf", f"select=eq(n\\,{index})", "-frames:v", "1"),
            *("-f", "image2pipe", "-c:v", "png", "-compression_level", "1", "pipe:1"),
        ],
        cwd="/",
        env={},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    with process:
        try:
            _limit(process.pid)
            png, _ = process.communicate(mp4, timeout=WALL_SECONDS)
        except subprocess.TimeoutExpired:
            png = b""
        finally:
            process.kill()
    if not png:
        _log.warning("clip_frame_failed", status=process.returncode)
        raise Unavailable("the clip's frame cannot be decoded now; try again")
    return png


def _limit(pid: int) -> None:
    """Limit a process that has read nothing yet; a system that lacks a limit runs without it."""
    for name, most in (
        ("RLIMIT_AS", MEMORY_BYTES),
        ("RLIMIT_CPU", CPU_SECONDS),
        ("RLIMIT_FSIZE", 0),
        ("RLIMIT_CORE", 0),
    ):
        with suppress(AttributeError, OSError, ValueError):
            resource.prlimit(pid, getattr(resource, name), (most, most))
