"""Our own processes for tests: started with a stack's settings, watched, always stopped."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, TypeVar

import psutil

from tests.support.stack import ROOT, Stack

T = TypeVar("T")

PATIENCE_SECONDS = 100.0
POLL_SECONDS = 0.02
LONGEST_POLL_SECONDS = 0.2


class Program:
    """One `python -m …` of ours, its output in a log file."""

    def __init__(self, module: str, env: dict[str, str], log: Path, *arguments: str) -> None:
        self.log = log
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", module, *arguments],
                cwd=ROOT,
                env=env,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self.process.pid

    def children(self) -> list[psutil.Process]:
        return psutil.Process(self.pid).children(recursive=True)

    def terminate(self, *, within: float = PATIENCE_SECONDS) -> int:
        """Ask it to stop and return its exit status."""
        self.process.terminate()
        return self.process.wait(timeout=within)

    def kill(self) -> None:
        """SIGKILL it and all that it started."""
        with contextlib.suppress(psutil.NoSuchProcess):
            for child in self.children():
                with contextlib.suppress(psutil.NoSuchProcess):
                    child.kill()
        self.process.kill()
        self.process.wait(timeout=PATIENCE_SECONDS)

    def text(self) -> str:
        return self.log.read_text(errors="replace")


class Crew:
    """Starts programs on one stack, and kills those that still run when the test ends."""

    def __init__(self, stack: Stack, folder: Path) -> None:
        self.stack = stack
        self._folder = folder
        self._programs: list[Program] = []

    def start(self, module: str, **settings: Any) -> Program:
        number = len(self._programs)
        log = self._folder / f"{number}-{module}.log"
        program = Program(module, self.stack.env(**settings), log)
        self._programs.append(program)
        return program

    def worker(self, **settings: Any) -> Program:
        return self.start("worker", **settings)

    def keeper(self, **settings: Any) -> Program:
        return self.start("worker.keeper", **settings)

    @property
    def first(self) -> Program:
        """Return the program that was started first."""
        return self._programs[0]

    def end(self) -> None:
        for program in self._programs:
            if program.process.poll() is None:
                program.kill()

    def logs(self) -> str:
        return "\n".join(f"--- {p.log.name}\n{p.text()[-4000:]}" for p in self._programs)


@contextlib.contextmanager
def crew(stack: Stack, folder: Path) -> Iterator[Crew]:
    people = Crew(stack, folder)
    try:
        yield people
    except BaseException:
        sys.stderr.write(people.logs())
        raise
    finally:
        people.end()


def until(
    probe: Callable[[], T | Literal[False] | None],
    what: str,
    *,
    within: float = PATIENCE_SECONDS,
) -> T:
    """Return the probe's first true answer; the wait is bounded, and its end is a failure.

    The longer the wait, the rarer the looks, because each look takes time of the cores.
    """
    began = time.monotonic()
    while True:
        answer = probe()
        if answer:
            return answer
        waited = time.monotonic() - began
        assert waited < within, f"not within {within:g} s: {what}"
        time.sleep(min(max(POLL_SECONDS, waited / 20), LONGEST_POLL_SECONDS))


def freeze(pid: int) -> None:
    os.kill(pid, signal.SIGSTOP)


def thaw(pid: int) -> None:
    os.kill(pid, signal.SIGCONT)
