"""A process of the system as a value, and the process once it is started."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from shared.errors import AppError
from shared.proxies import without_proxies

MARK = "STILLREEL_LAUNCHED_FROM"
"""Names the data folder in the environment of every process started from it."""

TETHER = Path(__file__).with_name("die_with_parent.py")
KILL_SECONDS = 10
HURRIED_SECONDS = 2

TAIL_BYTES = 65536
"""A Go program that panics writes its reason before the stacks of all its threads."""

_FATAL = re.compile(r"\b(?:FATAL|PANIC):  |^panic: |^fatal error: ")


class CannotStart(AppError):
    """The system cannot start or continue; the message is one sentence for whoever ran it."""

    code = "cannot_start"


@dataclass(frozen=True, kw_only=True)
class Part:
    """A process of the system: how it starts, when it serves, how it stops.

    `ready` answers within about a second, and raises only CannotStart, if no wait helps; without
    it a part serves as soon as it runs. A part with `runs_once` is a step: it is left out if it is
    `ready` already, else it is ready when it has ended with status 0. `upkeep` is called once an
    hour while the part serves; an OSError is shown to the person, and the part goes on. A part
    with `can_refuse` ends with status 2 if its settings are wrong; other programs end so for other
    reasons. `death_signal` is sent to the process if its launcher dies without stopping it (Linux
    only). A part that downloads nothing gets no proxy settings.
    """

    name: str
    argv: tuple[str, ...]
    log: Path
    cwd: Path
    env: Mapping[str, str] = field(default_factory=dict)
    needs: tuple[str, ...] = ()
    prepare: Callable[[], None] | None = None
    ready: Callable[[], bool] | None = None
    ready_seconds: float = 60
    upkeep: Callable[[], object] | None = None
    runs_once: bool = False
    can_refuse: bool = False
    stop_signal: signal.Signals = signal.SIGTERM
    death_signal: signal.Signals | None = None
    grace_seconds: float = 10
    uses_proxy: bool = False
    address: str = ""


class Process:
    """A started part; each method acts on its whole process tree, also after its head died."""

    def __init__(self, part: Part) -> None:
        self.part = part
        if part.prepare:
            part.prepare()
        argv = part.argv
        if part.death_signal:
            tether = (str(TETHER), str(int(part.death_signal)), str(os.getpid()))
            argv = (sys.executable, "-IS", *tether, *argv)
        base = os.environ if part.uses_proxy else without_proxies(os.environ)
        # For appending, because the file is emptied while the part writes.
        with part.log.open("ab") as log:
            self.log_begins = log.tell()
            self._popen = subprocess.Popen(
                argv,
                cwd=part.cwd,
                env={**base, **part.env},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                # Ctrl-C reaches only the launcher, which stops the parts in order.
                start_new_session=True,
            )
        # Distinguishes this process from another with a reused pid.
        self._head = psutil.Process(self._popen.pid)
        self.started = time.monotonic()

    @property
    def pid(self) -> int:
        return self._popen.pid

    @property
    def exit_status(self) -> int | None:
        """The exit status, negative for a signal; None while it runs."""
        return self._popen.poll()

    def tree(self) -> list[psutil.Process]:
        """Return the process and its descendants, head first; its session if the head is dead."""
        try:
            return [self._head, *self._head.children(recursive=True)]
        except psutil.NoSuchProcess:
            orphans = [it for it in psutil.process_iter() if _session(it) == self.pid]
        # If another process has the head's pid now, the session is not ours.
        return [] if any(it.pid == self.pid for it in orphans) else orphans

    def freeze(self) -> None:
        self._head.suspend()  # The head first, because it would go on to start others.
        for process in self.tree():
            with suppress(psutil.NoSuchProcess):
                process.suspend()

    def thaw(self) -> None:
        for process in self.tree():
            with suppress(psutil.NoSuchProcess):
                process.resume()

    def kill(self) -> None:
        """SIGKILL everything at once, as a crash or the kernel's OOM killer would."""
        tree = self.tree()
        for process in tree:
            _kill(process)
        self._popen.wait()
        wait_gone(tree, KILL_SECONDS)

    def signal_stop(self) -> None:
        if self.exit_status is None:
            self._popen.send_signal(self.part.stop_signal)

    def stop(self, is_hurried: Callable[[], bool] = lambda: False) -> bool:
        """Stop it, by force after the grace period; return whether it stopped by itself.

        Args:
            is_hurried: called while waiting; once it is true the grace period shrinks to two
                seconds.
        """
        tree = self.tree()
        self.signal_stop()
        asked = time.monotonic()
        while self.exit_status is None:
            grace = self.part.grace_seconds
            if is_hurried():
                grace = min(grace, HURRIED_SECONDS)
            if time.monotonic() > asked + grace:
                break
            time.sleep(0.01)
        went = self.exit_status is not None
        left = {*tree, *self.tree()}
        for process in left:
            _kill(process)
        self._popen.wait()
        wait_gone(left, KILL_SECONDS)
        return went

    def wait_ready(self) -> None:
        """Wait until it serves.

        Raises:
            CannotStart: it ended or took longer than `ready_seconds`.
        """
        deadline = time.monotonic() + self.part.ready_seconds
        while self.part.ready and not self.part.ready():
            if self.exit_status is not None or time.monotonic() > deadline:
                self.kill()
                raise CannotStart(
                    f"{self.part.name} did not start: {last_line(self.part.log, self.log_begins)}"
                )
            time.sleep(0.02)


def last_line(log: Path, begins: int = 0) -> str:
    """Return the line of a log that says why its program ended, cut to fit a sentence.

    It is the last line with content, or the last one that a server marked as fatal, because
    Postgres says "shut down" after it, and a Go program its stack.

    Args:
        begins: where the lines of the program's last run begin.
    """
    try:
        with log.open("rb") as file:
            end = log.stat().st_size
            file.seek(max(begins if begins < end else 0, end - TAIL_BYTES))
            lines = file.read().decode(errors="replace").splitlines()
    except OSError:
        return "it wrote no log"
    said = [line.strip() for line in lines if line.strip()]
    said = [line for line in said if _FATAL.search(line)] or said
    return _in_words(said[-1])[:300] if said else "it wrote nothing to its log"


def _in_words(line: str) -> str:
    """Return a structured line's event and reason; any other line unchanged."""
    try:
        fields = json.loads(line)
        # The caller says already that it refused.
        event = "" if fields["event"] == "refused_to_start" else f"{fields['event']}: "
        return f"{event}{fields['reason']}"
    except (ValueError, TypeError, KeyError):
        return line


def _session(process: psutil.Process) -> int | None:
    try:
        return os.getsid(process.pid)
    except OSError:
        return None


def _kill(process: psutil.Process) -> None:
    try:
        process.kill()
    except psutil.NoSuchProcess:
        return


def wait_gone(processes: Iterable[psutil.Process], seconds: float) -> None:
    """Wait until the processes ended and closed their ports; an orphan need not be reaped."""
    deadline = time.monotonic() + seconds
    while any(_is_running(process) for process in processes) and time.monotonic() < deadline:
        time.sleep(0.005)


def _is_running(process: psutil.Process) -> bool:
    try:
        if not process.is_running():
            return False
        # A zombie with more than one thread still holds its ports.
        return process.status() != psutil.STATUS_ZOMBIE or process.num_threads() > 1
    except psutil.NoSuchProcess:
        return False
