"""A process with more than 1,024 open files works, which `select()` would prevent."""

import contextlib
import os
import resource
import socket
from collections.abc import Iterator
from datetime import timedelta
from typing import NoReturn

import pytest
from sqlalchemy import text

from api.images.decoder_process import _in_fork
from shared.db import Database
from tests.support.stack import Stack

MANY = 1100
STATUS = 7


@pytest.fixture(autouse=True)
def _many_open() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 4 * MANY)), hard))
    with contextlib.ExitStack() as opened:
        for _ in range(MANY):
            opened.callback(os.close, os.open(os.devnull, os.O_RDONLY))
        yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_pooled_connection_is_used_again_and_a_dead_one_replaced(stack: Stack) -> None:
    url = stack.settings().database_url.get_secret_value()
    with contextlib.closing(Database(url, deadline=timedelta(seconds=60), pool_size=1)) as db:
        pids = []
        for _ in range(2):
            with db.autocommit() as connection:
                assert connection.connection.dbapi_connection.fileno() > 1024  # type: ignore[union-attr]
                pids.append(connection.execute(text("SELECT pg_backend_pid()")).scalar_one())
        assert pids[0] == pids[1]
        stack.postgres.restart()
        with db.autocommit() as connection:
            assert connection.execute(text("SELECT 1")).scalar_one() == 1


def test_an_image_is_still_decoded_in_its_fork() -> None:
    ours, theirs = socket.socketpair()

    def decode(progress: int) -> NoReturn:
        os.write(progress, b".")
        os._exit(STATUS)

    with ours, theirs:
        assert theirs.fileno() > 1024
        assert os.waitstatus_to_exitcode(_in_fork(decode, theirs)) == STATUS
