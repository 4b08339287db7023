"""The three processes of a service under fault, each started again when it dies."""

import contextlib
import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import psutil
import requests

from tests.support.ports import free_port
from tests.support.processes import Program, until
from tests.support.stack import Stack

MODULES: Final = {"gateway": "api", "worker": "worker", "keeper": "worker.keeper"}

SETTINGS: Final[dict[str, Any]] = {
    "engines": "scripted=tests.support.engines:ScriptedEngine",
    "cpu_workers": 2,
    "lease_seconds": 3,
    "keeper_tick_seconds": 0.2,
    "drain_seconds": 3,
    "max_queued_per_key": 100_000,
    "webhook_schedule": ",".join(["0", "0.2", "0.5", *["1"] * 17]),
    "outbound_allow": "127.0.0.0/8",
    "log_format": "json",
}


class Service:
    """Restarts each process at once when it ends, as an operator's supervisor does."""

    def __init__(self, stack: Stack, folder: Path, **settings: Any) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.exits: Counter[tuple[str, int]] = Counter()
        self._env = stack.env(**SETTINGS | {"port": self.port} | settings)
        self._folder = folder
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._programs: dict[str, Program] = {}
        self._thread = threading.Thread(target=self._watch, name="ward", daemon=True)

    def start(self, *names: str) -> None:
        """Start the named processes (default: all), and wait until the gateway answers."""
        for name in names or MODULES:
            self.begin(name)
        self._thread.start()
        if "gateway" in self._programs:
            until(self._answers, "the gateway answers")

    def program(self, name: str) -> Program:
        with self._lock:
            return self._programs[name]

    def environment(self, name: str, value: str) -> None:
        self._env[name] = value

    def child(self, pid: int) -> psutil.Process | None:
        """Return a process by its pid if it is a worker's pool child of this ward."""
        with contextlib.suppress(psutil.Error):
            process = psutil.Process(pid)
            if self.program("worker").pid in [parent.pid for parent in process.parents()]:
                return process
        return None

    def events(self, name: str) -> Iterator[dict[str, Any]]:
        """Yield the structured lines that a program has logged since its first start."""
        for line in (self._folder / f"{name}.log").read_text(errors="replace").splitlines():
            with contextlib.suppress(ValueError):
                entry = json.loads(line)
                if isinstance(entry, dict):
                    yield entry

    def counted(self, name: str, event: str) -> int:
        return sum(entry.get("event") == event for entry in self.events(name))

    def is_muted(self) -> bool:
        """Return whether the gateway has dropped a bell because Valkey was slow."""
        return self.counted("gateway", "bell_muted") > 0

    def end(self) -> None:
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(timeout=30)
        for program in self._programs.values():
            if program.process.poll() is None:
                program.kill()

    def begin(self, name: str) -> None:
        """Start one process; from then on it is restarted too."""
        program = Program(MODULES[name], self._env, self._folder / f"{name}.log")
        with self._lock:
            self._programs[name] = program

    def _watch(self) -> None:
        while not self._stopping.is_set():
            for name, program in list(self._programs.items()):
                code = program.process.poll()
                if code is not None:
                    self.exits[name, code] += 1
                    self.begin(name)
            time.sleep(0.05)

    def _answers(self) -> bool:
        with contextlib.suppress(requests.RequestException):
            return requests.get(f"{self.url}/livez", timeout=5).status_code == 200
        return False


@contextlib.contextmanager
def ward(stack: Stack, folder: Path, **settings: Any) -> Iterator[Service]:
    folder.mkdir(parents=True, exist_ok=True)
    people = Service(stack, folder, **settings)
    try:
        yield people
    finally:
        people.end()
