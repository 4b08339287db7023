"""Postgres, Valkey and SeaweedFS for tests: real, started from wheels, ended with the process."""

import contextlib
import fcntl
import itertools
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import psycopg

from local.app_processes import ROOT
from local.launcher import hold
from local.processes.process import CannotStart, Part, Process
from local.servers import postgres
from local.servers.seaweed import sweep_sockets
from local.servers.services import service_env, services
from local.state import State
from shared.settings import Settings
from shared.storage import Storage
from tests.support.ports import service_ports

TEMPLATE: Final = "migrated"
PREFIX: Final = "stillreel-stack-"
LOG_LINES: Final = 20
MEMORY: Final = Path("/dev/shm")  # noqa: S108  Names there are random, as in any other place.
ROOM_BYTES: Final = 4 << 30
"""The largest test file fills 470 MB, and up to four processes run. Docker gives 64 MB, other
systems half of the machine's memory."""


class Server:
    """One server that tests may stop, kill and freeze; it is healthy again for the next test."""

    def __init__(self, part: Part) -> None:
        # A killed pytest must not leave servers running.
        self.part = replace(part, death_signal=signal.SIGKILL)
        self._process: Process | None = None
        self._is_frozen = False

    @property
    def pid(self) -> int:
        return self._running.pid

    def start(self) -> None:
        """Start it and return at once; `wait_ready` follows."""
        self._process = Process(self.part)
        self._is_frozen = False

    def wait_ready(self) -> None:
        """Wait until it serves.

        Raises:
            CannotStart: it does not; the end of its log is a note of the error.
        """
        try:
            self._running.wait_ready()
        except CannotStart as error:
            lines = self.part.log.read_text(errors="replace").splitlines()
            error.add_note("\n".join(lines[-LOG_LINES:]))
            raise

    def stop(self) -> None:
        self._running.stop()

    def kill(self) -> None:
        """SIGKILL it with all its children."""
        if self._process is not None:
            self._process.kill()

    def restart(self) -> None:
        """Start it again, after `stop` or `kill` or instead of them, and wait until it serves."""
        self.kill()
        self.start()
        self.wait_ready()

    def freeze(self) -> None:
        """SIGSTOP it with all its children: connections stay open and nothing answers."""
        self._is_frozen = True
        self._running.freeze()

    def thaw(self) -> None:
        self._running.thaw()
        self._is_frozen = False

    def heal(self) -> None:
        """Undo what a test did to it."""
        if self._running.exit_status is not None:
            self.restart()
        elif self._is_frozen:
            self.thaw()
            self.wait_ready()

    @property
    def _running(self) -> Process:
        assert self._process is not None, f"{self.part.name} was never started"
        return self._process


class Servers:
    """The three servers of one process, on free ports, with their data in one folder."""

    def __init__(self, folder: Path, *, is_durable: bool) -> None:
        (folder / "logs").mkdir()
        self.folder = folder
        self.state = State(ports=service_ports())
        self.state.save(folder)
        self.postgres, self.valkey, self.s3 = (
            Server(part) for part in services(folder, self.state, is_durable=is_durable)
        )
        self.stack_numbers = itertools.count(1)

    def __iter__(self) -> Iterator[Server]:
        return iter((self.postgres, self.valkey, self.s3))

    @cached_property
    def storage(self) -> Storage:
        """A client of the one bucket that all tests share, one after another."""
        return Storage(settings_from(service_env(self.state)), read=timedelta(seconds=60))

    def start(self) -> None:
        for server in self:
            server.start()
        for server in self:
            server.wait_ready()

    def migrate_template(self) -> None:
        """Make the database that each stack's own database is copied from."""
        with connect(self.state) as connection:
            connection.execute(f"CREATE DATABASE {TEMPLATE}")
        subprocess.run(
            [sys.executable, "-m", "alembic", "upgrade", "head"],
            cwd=ROOT,
            env={**os.environ, **service_env(self.state, database=TEMPLATE)},
            check=True,
            timeout=100,
        )

    def heal(self) -> None:
        for server in self:
            server.heal()

    def end(self) -> None:
        for server in self:
            server.kill()
        sweep_sockets(self.state)


@contextlib.contextmanager
def running_servers(folder: Path, *, is_durable: bool = False) -> Iterator[Servers]:
    """Yield servers that serve, with the template in Postgres; end them afterwards.

    Args:
        folder: absolute and empty; its data stays there.
        is_durable: a bench wants the disk's part in its figures; a killed process does not
            notice that nothing was synced.

    Raises:
        CannotStart: a server did not start; the message has the last line of its log.
    """
    with contextlib.ExitStack() as held:
        with _turn():
            servers = Servers(folder, is_durable=is_durable)
            held.callback(servers.end)
            servers.start()
        servers.migrate_template()
        yield servers


@contextlib.contextmanager
def folder_in_use() -> Iterator[Path]:
    """Yield a temporary folder, and remove those that killed runs left."""
    with contextlib.ExitStack() as held:
        with _turn():
            _remove_what_killed_runs_left()
            folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=_place())).resolve()
            held.callback(shutil.rmtree, folder, ignore_errors=True)
            held.enter_context(hold(folder))
        yield folder


@contextlib.contextmanager
def _turn() -> Iterator[None]:
    """Let one process at a time choose and open its ports, or make its folder."""
    with Path(tempfile.gettempdir(), f"{PREFIX}{os.geteuid()}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _place() -> Path:
    """Return where the folder should be: in memory if there is room.

    A database is 400 files, made and removed for each stack, and not every disk does that well.
    """
    has_room = MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > ROOM_BYTES
    return MEMORY if has_room else Path(tempfile.gettempdir())


def _remove_what_killed_runs_left() -> None:
    places = (MEMORY, Path(tempfile.gettempdir()))
    for folder in (it for place in places for it in place.glob(f"{PREFIX}*/")):
        with contextlib.suppress(CannotStart, OSError), hold(folder):  # Others are in use.
            sweep_sockets(State.load(folder))
            shutil.rmtree(folder)


def connect(state: State, database: str = "postgres") -> psycopg.Connection:
    """Connect as Postgres' owner, in autocommit mode; slow if the machine stalls."""
    return postgres.connect(state, database, patience_seconds=20)


def settings_from(env: dict[str, str], **values: Any) -> Settings:
    """Return the settings that a process with this environment would read, and nothing else."""
    named: dict[str, Any] = {
        name.removeprefix("STILLREEL_").lower(): value for name, value in env.items()
    }
    return Settings(_env_file=None, **(named | values))
