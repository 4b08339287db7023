"""A running ffmpeg, used through pipes: every wait is bounded, and its first complaint is kept."""

import os
import re
import select
import subprocess
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Final, NoReturn, Self

from imageio_ffmpeg import get_ffmpeg_exe

from shared.errors import BadVideo

STALL_SECONDS: Final = 120.0

_REAP_SECONDS: Final = 10.0
_READ_BYTES: Final = 1 << 20
_POINTER: Final = re.compile(r" @ 0x[0-9a-f]+")


class Ffmpeg:
    """One ffmpeg in a session of its own, so that Ctrl-C reaches only this process.

    It runs in `folder` and names files without their path, so its arguments and messages contain
    no path and no text of a client. However this process dies, the pipes close and ffmpeg ends. It
    belongs to one thread at a time.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        *,
        folder: Path,
        stall_seconds: float = STALL_SECONDS,
        pass_fds: Sequence[int] = (),
    ) -> None:
        """Start ffmpeg.

        Args:
            stall_seconds: how long it may go without taking or giving a byte.
            pass_fds: files it may read as `pipe:N`.
        """
        self._stall_seconds = stall_seconds
        self._process = subprocess.Popen(
            [get_ffmpeg_exe(), "-hide_banner", "-nostdin", "-loglevel", "error", *arguments],
            cwd=folder,
            # It needs none of our variables, least of all secrets; FFREPORT would write a log
            # file.
            env={},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            pass_fds=pass_fds,
            start_new_session=True,
        )
        self._stdin, self._stdout, self._stderr = _pipes(self._process)
        # poll() promises 4 KiB of space; a blocking write of a frame would wait for all of it.
        os.set_blocking(self._stdin.fileno(), False)
        self._complaint = ""
        self._listener = threading.Thread(target=self._listen, name="ffmpeg-stderr", daemon=True)
        self._listener.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.kill()

    def write(self, data: memoryview) -> None:
        """Feed bytes to its standard input.

        Raises:
            BadVideo: it ended, or accepted nothing for `stall_seconds`.
        """
        if self._stdin.closed:
            self._fail()
        while data:
            self._await(self._stdin, select.POLLOUT)
            try:
                data = data[os.write(self._stdin.fileno(), data) :]
            except BlockingIOError:
                continue
            except BrokenPipeError:
                self._fail()

    def read(self, size: int) -> bytes:
        """Return `size` bytes of its standard output, fewer only at the end.

        Raises:
            BadVideo: it gave nothing for `stall_seconds`.
        """
        data = bytearray()
        while len(data) < size:
            self._await(self._stdout, select.POLLIN)
            part = os.read(self._stdout.fileno(), min(size - len(data), _READ_BYTES))
            if not part:
                break
            data += part
        return bytes(data)

    def finish(self) -> bytes:
        """Close its input, wait for its end and return the rest of its output.

        Raises:
            BadVideo: it failed, or was silent for `stall_seconds`.
        """
        self._stdin.close()
        rest = bytearray()
        while part := self.read(_READ_BYTES):
            rest += part
        try:
            code = self._process.wait(self._stall_seconds)
        except subprocess.TimeoutExpired:
            self._stall()
        if code:
            self._fail()
        self.kill()
        return bytes(rest)

    def kill(self) -> None:
        """Kill it if it still runs, and close its pipes; it may be called again."""
        self._process.kill()
        # It is stuck in the kernel: nothing can end it now.
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_REAP_SECONDS)
        self._listener.join(_REAP_SECONDS)
        for pipe in (self._stdin, self._stdout, self._stderr):
            pipe.close()

    def _await(self, pipe: IO[bytes], event: int) -> None:
        poll = select.poll()
        poll.register(pipe, event)
        if not poll.poll(self._stall_seconds * 1000):
            self._stall()

    def _stall(self) -> NoReturn:
        self.kill()
        raise BadVideo(f"ffmpeg made no progress for {self._stall_seconds:g} s and was ended")

    def _fail(self) -> NoReturn:
        with suppress(subprocess.TimeoutExpired):  # While it ends, it may still write the reason.
            self._process.wait(_REAP_SECONDS)
        self.kill()
        raise BadVideo(f"ffmpeg failed: {self._complaint or self._end()}")

    def _end(self) -> str:
        code = self._process.poll()
        return f"exit {code}" if code is None or code >= 0 else f"it was ended by signal {-code}"

    def _listen(self) -> None:
        for line in self._stderr:
            # The first line names the cause; later lines name the failures that follow from it.
            if not self._complaint:
                self._complaint = _POINTER.sub("", line.decode(errors="replace").strip())


def _pipes(process: subprocess.Popen[bytes]) -> tuple[IO[bytes], IO[bytes], IO[bytes]]:
    assert process.stdin is not None  # Popen was given three PIPEs.
    assert process.stdout is not None
    assert process.stderr is not None
    return process.stdin, process.stdout, process.stderr
