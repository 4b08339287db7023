"""If ffmpeg fails in any way, the clip ends in an error in bounded time and leaves no file."""

import os
import signal
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest

from shared.errors import BadVideo
from tests.support.clips import flat_clip, moving_clip
from worker.engines.base import Frames
from worker.ffmpeg import Ffmpeg
from worker.video.metadata import Tags
from worker.video.writer import Mp4Writer

WIDTH, HEIGHT = 512, 384


@pytest.fixture
def children() -> set[psutil.Process]:
    return set(psutil.Process().children())


@pytest.fixture
def writer(tmp_path: Path, children: set[psutil.Process]) -> Iterator[Mp4Writer]:
    writer = _writer(tmp_path / "clip.mp4")
    yield writer
    writer.abort()


@pytest.fixture
def ffmpeg(writer: Mp4Writer, children: set[psutil.Process]) -> psutil.Process:
    (process,) = set(psutil.Process().children()) - children
    return process


def test_an_ffmpeg_killed_between_chunks_ends_the_clip(
    writer: Mp4Writer, ffmpeg: psutil.Process
) -> None:
    writer.write(_noise())
    ffmpeg.kill()

    with pytest.raises(BadVideo, match="ended by signal 9"):
        writer.write(_noise())

    assert not writer.path.exists()


def test_an_ffmpeg_killed_before_the_end_ends_the_clip(
    writer: Mp4Writer, ffmpeg: psutil.Process
) -> None:
    writer.write(_noise())
    ffmpeg.kill()

    with pytest.raises(BadVideo, match="ended by signal 9"):
        writer.close()

    assert not writer.path.exists()


def test_nothing_can_be_written_after_a_failure(writer: Mp4Writer, ffmpeg: psutil.Process) -> None:
    ffmpeg.kill()
    with pytest.raises(BadVideo):
        writer.write(_noise())

    with pytest.raises(BadVideo):
        writer.write(_noise())


def test_an_ffmpeg_that_takes_no_frames_is_ended(
    tmp_path: Path, children: set[psutil.Process]
) -> None:
    writer = _writer(tmp_path / "clip.mp4", stall_seconds=0.2)
    (ffmpeg,) = set(psutil.Process().children()) - children
    ffmpeg.suspend()

    with pytest.raises(BadVideo, match=r"no progress for 0\.2 s"):
        writer.write(_noise())

    assert not ffmpeg.is_running()
    assert not writer.path.exists()


def test_an_ffmpeg_that_never_ends_is_ended(tmp_path: Path, children: set[psutil.Process]) -> None:
    writer = Mp4Writer(
        tmp_path / "clip.mp4", width=64, height=64, fps=8, tags=Tags({}), stall_seconds=0.2
    )
    (ffmpeg,) = set(psutil.Process().children()) - children
    ffmpeg.suspend()
    writer.write(flat_clip([128]))  # The frame is small enough for the pipe's buffer.

    with pytest.raises(BadVideo, match=r"no progress for 0\.2 s"):
        writer.close()

    assert not ffmpeg.is_running()
    assert not writer.path.exists()


def test_a_full_disk_is_an_error_that_says_so(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    path.symlink_to("/dev/full")
    writer = _writer(path)

    with pytest.raises(BadVideo, match="No space left on device"):
        _write_all(writer)

    assert list(tmp_path.iterdir()) == []
    assert Path("/dev/full").exists()


def test_a_file_limit_is_an_error(writer: Mp4Writer, ffmpeg: psutil.Process) -> None:
    ffmpeg.rlimit(psutil.RLIMIT_FSIZE, (100_000, 100_000))

    with pytest.raises(BadVideo, match="ffmpeg failed"):
        _write_all(writer)

    assert not writer.path.exists()


def test_an_abort_ends_ffmpeg_at_once(writer: Mp4Writer, ffmpeg: psutil.Process) -> None:
    writer.write(_noise())

    writer.abort()

    assert not ffmpeg.is_running()
    assert not writer.path.exists()


def test_a_finished_clip_leaves_no_process(writer: Mp4Writer, ffmpeg: psutil.Process) -> None:
    writer.write(_noise())

    writer.close()

    assert not ffmpeg.is_running()


def test_ctrl_c_does_not_reach_ffmpeg(ffmpeg: psutil.Process) -> None:
    assert os.getpgid(ffmpeg.pid) != os.getpgrp()
    assert os.getsid(ffmpeg.pid) != os.getsid(0)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_ffmpeg_ends_when_its_worker_dies(tmp_path: Path, how: signal.Signals) -> None:
    script = (
        "import psutil, sys; from pathlib import Path;"
        "from tests.support.clips import moving_clip;"
        "from worker.video.metadata import Tags; from worker.video.writer import Mp4Writer;"
        "w = Mp4Writer(Path(sys.argv[1]), width=128, height=96, fps=8, tags=Tags({}));"
        "w.write(moving_clip());"
        "print(psutil.Process().children()[0].pid, flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path / "clip.mp4")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as worker:
        assert worker.stdout is not None
        ffmpeg = psutil.Process(int(worker.stdout.readline()))

        worker.send_signal(how)

        worker.wait(60)
        ffmpeg.wait(60)
    assert not ffmpeg.is_running()


def test_a_talkative_ffmpeg_is_never_blocked(tmp_path: Path) -> None:
    source = "testsrc=duration=40:size=64x64:rate=25"

    with Ffmpeg(
        [*("-loglevel", "trace", "-f", "lavfi", "-i", source, "-f", "rawvideo", "pipe:1")],
        folder=tmp_path,
        stall_seconds=20,
    ) as ffmpeg:
        pixels = ffmpeg.finish()

    assert len(pixels) == 1000 * 64 * 64 * 3


def test_the_message_is_the_cause_without_addresses(tmp_path: Path) -> None:
    with (
        pytest.raises(BadVideo) as caught,
        Ffmpeg(
            ["-f", "lavfi", "-i", "nosuchfilter", "-f", "null", "-"], folder=tmp_path
        ) as ffmpeg,
    ):
        ffmpeg.finish()

    assert str(caught.value) == "ffmpeg failed: [AVFilterGraph] No such filter: 'nosuchfilter'"


def test_a_long_clip_is_never_held_twice(tmp_path: Path) -> None:
    # The sides are odd, and the array is not contiguous.
    frames = moving_clip(16, width=511, height=383)[:, :, ::-1]
    tracemalloc.start()
    try:
        with Mp4Writer(
            tmp_path / "clip.mp4", width=511, height=383, fps=8, tags=Tags({})
        ) as writer:
            writer.write(frames)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak_bytes < 5 * frames[0].nbytes


def _writer(path: Path, *, stall_seconds: float = 20) -> Mp4Writer:
    return Mp4Writer(
        path, width=WIDTH, height=HEIGHT, fps=8, tags=Tags({}), stall_seconds=stall_seconds
    )


def _noise() -> Frames:
    """Return frames that are too large for a pipe's buffer or a small file."""
    return np.random.default_rng(0).integers(0, 256, (4, HEIGHT, WIDTH, 3), np.uint8)


def _write_all(writer: Mp4Writer) -> None:
    with writer:
        for _ in range(4):
            writer.write(_noise())
