"""Runs the command `stillreel` as people do: in a pipe, or on a terminal."""

import fcntl
import os
import pty
import re
import select
import subprocess
import sys
import termios
import time
from pathlib import Path
from typing import Any

from tests.support.stack import ROOT

PATIENCE_SECONDS = 60.0
ANSI = re.compile(rb"\x1b\[[0-9;?]*[a-zA-Z]")


def argv(*words: str) -> list[str]:
    return [sys.executable, "-m", "stillreel.command.main", *words]


def env(url: str, **more: str) -> dict[str, str]:
    plain = {name: value for name, value in os.environ.items() if name != "STILLREEL_KEY"}
    return {
        **plain,
        "PYTHONPATH": str(ROOT / "client"),
        "STILLREEL_URL": url,
        "TERM": "xterm",
        "COLUMNS": "200",
        **more,
    }


def piped(url: str, *words: str, folder: Path, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        argv(*words),
        cwd=folder,
        env=env(url, **more),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )


class Terminal:
    """The command with a terminal of its own."""

    def __init__(self, url: str, *words: str, folder: Path) -> None:
        self._here, there = pty.openpty()
        self.process = subprocess.Popen(
            argv(*words),
            cwd=folder,
            env=env(url),
            stdin=there,
            stdout=there,
            stderr=there,
            preexec_fn=_own_terminal,
        )
        os.close(there)
        self.seen = ""

    def until(self, words: str) -> str:
        """Read until the words have appeared."""
        ends_at = time.monotonic() + PATIENCE_SECONDS
        while words not in self.seen:
            assert time.monotonic() < ends_at, f"{words!r} was not shown:\n{self.seen}"
            assert self._read(), f"{words!r} was not shown before its end:\n{self.seen}"
        return self.seen

    def type(self, keys: str) -> None:
        os.write(self._here, keys.encode())

    def end(self) -> int:
        """Return the exit status, once it has ended."""
        while self._read():
            pass
        return self.process.wait(timeout=PATIENCE_SECONDS)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(timeout=PATIENCE_SECONDS)
        os.close(self._here)

    def __enter__(self) -> "Terminal":
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def _read(self) -> bool:
        poll = select.poll()
        poll.register(self._here, select.POLLIN | select.POLLHUP)
        if not poll.poll(PATIENCE_SECONDS * 1000):
            return False
        try:
            received = os.read(self._here, 65536)
        except OSError:  # Linux reports it so when the last program of a terminal has gone.
            return False
        self.seen += ANSI.sub(b"", received).decode(errors="replace")
        return bool(received)


def _own_terminal() -> None:
    """Make this the controlling terminal, whose Ctrl-C the command gets."""
    os.setsid()
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
