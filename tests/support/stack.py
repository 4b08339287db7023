"""A fresh database, cache and bucket for each test, on the servers of its test process."""

import contextlib
import os
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import pytest
from psycopg import sql
from redis import Redis

from local.servers.services import service_env
from shared.db import Database
from shared.settings import Settings
from tests.support.servers import (
    TEMPLATE,
    Servers,
    connect,
    folder_in_use,
    running_servers,
    settings_from,
)

ROOT: Final = Path(__file__).parents[2]


class Stack:
    """The services of one test: its own database, Valkey number and data folder, an empty bucket.

    Valkey's pub/sub has no numbers: a process that another test left running could still be heard.
    """

    def __init__(self, servers: Servers, data_dir: Path) -> None:
        self.servers = servers
        self.postgres, self.valkey, self.s3 = servers
        number = next(servers.stack_numbers)
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


@contextlib.contextmanager
def fresh_stack(servers: Servers, data_dir: Path) -> Iterator[Stack]:
    """Yield a stack, with servers that are healthy before and after it."""
    servers.heal()
    stack = Stack(servers, data_dir)
    yield stack
    servers.heal()
    stack.drop()


def open_database(settings: Settings, *, deadline: timedelta) -> Database:
    """Return a database for a test's own queries; connecting is slow if the machine stalls."""
    url = settings.database_url.get_secret_value()
    # Twenty at once share five connections.
    return Database(url, deadline=deadline, name="tests", patience_seconds=20)


@pytest.fixture(scope="session")
def servers() -> Iterator[Servers]:
    """The servers of this test process; most tests want `stack`."""
    with folder_in_use() as folder, running_servers(folder) as servers:
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
