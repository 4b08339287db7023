"""One set of real servers for a test run, and a fresh database, cache and bucket for each test."""

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
from typing import Any

import psycopg
import pytest
from psycopg import sql
from redis import Redis

from local.launcher import hold
from local.processes.process import CannotStart, Part, Process
from local.servers import postgres
from local.servers.seaweed import sweep_sockets
from local.servers.services import service_env, services
from local.state import State
from shared.db import Database
from shared.settings import Settings
from shared.storage import Storage
from tests.support.ports import service_ports

ROOT = Path(__file__).parents[2]
TEMPLATE = "migrated"
PREFIX = "stillreel-stack-"
NUMBERS = itertools.count(1)


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
        self._running.wait_ready()

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
    """Postgres, Valkey and SeaweedFS on free ports in a folder of their own."""

    def __init__(self, folder: Path, *, is_durable: bool = False) -> None:
        """A killed process does not notice that nothing was synced to the disk; a bench does."""
        (folder / "logs").mkdir()
        self.folder = folder
        self.state = State(ports=service_ports())
        self.state.save(folder)
        self.postgres, self.valkey, self.s3 = (
            Server(part) for part in services(folder, self.state, is_durable=is_durable)
        )

    def __iter__(self) -> Iterator[Server]:
        return iter((self.postgres, self.valkey, self.s3))

    def start(self) -> None:
        for server in self:
            server.start()
        for server in self:
            server.wait_ready()

    def migrate_template(self) -> None:
        """Make the database that each test's own database is copied from."""
        with connect(self.state) as connection:
            connection.execute(f"CREATE DATABASE {TEMPLATE}")
        subprocess.run(
            [sys.executable, "-m", "alembic", "upgrade", "head"],
            cwd=ROOT,
            env={**os.environ, **service_env(self.state, database=TEMPLATE)},
            check=True,
            timeout=100,
        )

    @cached_property
    def storage(self) -> Storage:
        """A client of the one bucket that all tests share, one after another."""
        return Storage(settings_from(service_env(self.state)), read=timedelta(seconds=60))

    def heal(self) -> None:
        for server in self:
            server.heal()

    def end(self) -> None:
        for server in self:
            server.kill()
        sweep_sockets(self.state)


class Stack:
    """The services of one test: its own database, Valkey number and data folder, an empty bucket.

    Valkey's pub/sub has no numbers: a process that another test left running could still be heard.
    """

    def __init__(self, servers: Servers, data_dir: Path) -> None:
        self.servers = servers
        self.postgres, self.valkey, self.s3 = servers
        number = next(NUMBERS)
        self.database = f"test_{number}"
        self.data_dir = data_dir
        # Tests send requests as fast as they can; those of the rate limit set one.
        self._usual = {
            "data_dir": data_dir,
            "engines": "camera",
            "log_format": "console",
            "rate_limit": "none",
        }
        self._env = service_env(servers.state, database=self.database, valkey_db=number % 1000)
        with connect(servers.state) as connection:
            connection.execute(
                sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY FILE_COPY").format(
                    sql.Identifier(self.database), sql.Identifier(TEMPLATE)
                )
            )
        with Redis.from_url(self.settings().redis_url.get_secret_value()) as valkey:
            valkey.flushdb()
        servers.storage.delete_prefix("")

    def settings(self, **overrides: Any) -> Settings:
        """Return a process's settings in this stack; none come from the caller's environment."""
        return settings_from(self._env, **(self._usual | overrides))

    def env(self, **overrides: Any) -> dict[str, str]:
        """Return the environment of a subprocess with these settings, like `port=7861`."""
        values = {
            f"STILLREEL_{name.upper()}": str(value)
            for name, value in (self._usual | overrides).items()
        }
        # A killed process leaves its temporary files, which are removed with the test's own.
        shared = {"PYTHONPATH": str(ROOT), "TMPDIR": str(self.data_dir)}
        return {**os.environ, **shared, **self._env, **values}

    def drop(self) -> None:
        with connect(self.servers.state) as connection:
            connection.execute(
                sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(self.database))
            )


@pytest.fixture(scope="session")
def servers() -> Iterator[Servers]:
    """The servers of this test process; most tests want `stack`."""
    with contextlib.ExitStack() as held:
        with _booting():
            _remove_what_killed_runs_left()
            folder = Path(tempfile.mkdtemp(prefix=PREFIX)).resolve()
            held.callback(shutil.rmtree, folder, ignore_errors=True)
            held.enter_context(hold(folder))
            servers = Servers(folder)
            held.callback(servers.end)
            servers.start()
        servers.migrate_template()
        yield servers


@pytest.fixture
def stack(servers: Servers, tmp_path: Path) -> Iterator[Stack]:
    """Healthy servers, and a migrated database, a Valkey and a bucket that are empty."""
    with fresh_stack(servers, tmp_path) as stack:
        yield stack


@pytest.fixture(scope="module")
def module_stack(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Like `stack`, one for all tests of a module."""
    with fresh_stack(servers, tmp_path_factory.mktemp("stack")) as stack:
        yield stack


@contextlib.contextmanager
def _booting() -> Iterator[None]:
    """Let one stack at a time choose and open its ports; others may be starting beside it."""
    with Path(tempfile.gettempdir(), f"{PREFIX}{os.geteuid()}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _remove_what_killed_runs_left() -> None:
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*/"):
        with contextlib.suppress(CannotStart, OSError), hold(folder):  # Others are in use.
            sweep_sockets(State.load(folder))
            shutil.rmtree(folder)


def connect(state: State, database: str = "postgres") -> psycopg.Connection:
    """Connect as Postgres' owner, in autocommit mode; slow if the machine stalls."""
    return postgres.connect(state, database, patience_seconds=20)


def open_database(settings: Settings, *, deadline: timedelta) -> Database:
    """Return a database for a test's own queries; connecting is slow if the machine stalls."""
    url = settings.database_url.get_secret_value()
    # Twenty at once share five connections.
    return Database(url, deadline=deadline, name="tests", patience_seconds=20)


def settings_from(env: dict[str, str], **values: Any) -> Settings:
    """Return the settings that a process with this environment would read, and nothing else."""
    named: dict[str, Any] = {
        name.removeprefix("STILLREEL_").lower(): value for name, value in env.items()
    }
    return Settings(_env_file=None, **(named | values))


@contextlib.contextmanager
def fresh_stack(servers: Servers, data_dir: Path) -> Iterator[Stack]:
    """Yield a stack, with servers that are healthy before and after it."""
    servers.heal()
    stack = Stack(servers, data_dir)
    yield stack
    servers.heal()
    stack.drop()
