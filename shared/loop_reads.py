"""Reads on the event loop: one statement, prepared once, on one connection and without a thread.

It stands beside `db.py`, for reads that come hundreds of times a second: handing a read to a
thread, and its answer back, costs more than the read.
"""

import asyncio
from contextlib import suppress
from datetime import timedelta
from typing import Any, Final

import psycopg
from psycopg.pq import DiagnosticField, ExecStatus
from psycopg.pq.abc import PGconn, PGresult

from shared import db
from shared.errors import DatabaseUnavailable
from shared.server_urls import connect_arguments

_NAME: Final = b"read"
_GOOD: Final = (ExecStatus.TUPLES_OK, ExecStatus.COMMAND_OK)
_NOT_MIGRATED: Final = ("42P01", "42703")
"""The error codes of a missing table and of a missing column."""


class LoopReads:
    """Belongs to one event loop, and does one read at a time.

    It waits for the socket itself, because psycopg's asynchronous connections, when stopped, first
    wait for an answer, which a frozen server never gives.
    """

    def __init__(
        self,
        url: str,
        statement: str,
        *,
        deadline: timedelta,
        name: str,
        patience_seconds: int = db.PATIENCE_SECONDS,
    ) -> None:
        """The statement takes `$1`, `$2` and so on, and returns one column without NULLs."""
        self._url = url
        self._statement = statement.encode()
        self._deadline = deadline
        self._name = name
        self._patience_seconds = patience_seconds
        self._server: _Server | None = None
        self.connections = 0
        """How often it has connected: after a reconnect another server may answer."""

    async def values(self, *asked: str) -> list[str]:
        """Return the values that the statement finds, as Postgres writes them.

        Raises:
            DatabaseUnavailable: the server is away, frozen or too slow, or lacks our tables.
        """
        try:
            if self._server is None or self._server.is_gone:
                self.close()
                async with asyncio.timeout(self._deadline.total_seconds()):
                    self._server = await self._connect()
            found = await self._server.ask(*asked)
            return [_text(found.get_value(row, 0)) for row in range(found.ntuples)]
        except (psycopg.Error, OSError, TimeoutError) as error:
            self.close()
            raise DatabaseUnavailable("the database did not answer in time; try again") from error
        except BaseException:
            self.close()  # The rest of this answer would be taken for the next one.
            raise

    def close(self) -> None:
        """Close the connection; the next read opens another."""
        server, self._server = self._server, None
        if server is not None:
            server.close()

    async def _connect(self) -> "_Server":
        arguments: dict[str, Any] = {
            **connect_arguments(self._url),
            "autocommit": True,
            "connect_timeout": self._patience_seconds,
            "application_name": self._name,
            "options": db.session_options(self._deadline, self._url),
        }
        connection = await psycopg.AsyncConnection.connect(**arguments)
        server = _Server(connection, self._deadline.total_seconds())
        try:
            await server.prepare(self._statement)
        except BaseException:
            server.close()
            raise
        self.connections += 1
        return server


class _Server:
    """One open connection, whose every answer has a time limit."""

    def __init__(self, connection: psycopg.AsyncConnection, seconds: float) -> None:
        self._connection = connection
        self._seconds = seconds
        self._pgconn: PGconn = connection.pgconn
        self._loop = asyncio.get_running_loop()
        self._socket = self._pgconn.socket
        self._results: list[PGresult] = []
        self._answer: asyncio.Future[list[PGresult]] | None = None
        self.is_gone = False
        self._loop.add_reader(self._socket, self._read)

    async def prepare(self, statement: bytes) -> None:
        self._pgconn.send_prepare(_NAME, statement)
        await self._answered()

    async def ask(self, *values: str) -> PGresult:
        self._pgconn.send_query_prepared(_NAME, [value.encode() for value in values])
        return (await self._answered())[-1]

    def close(self) -> None:
        if not self.is_gone:
            self._go()
        self._pgconn.finish()

    async def _answered(self) -> list[PGresult]:
        """Wait for the server's whole answer.

        Raises:
            psycopg.OperationalError: the connection was closed.
            TimeoutError: the server sends nothing.
            DatabaseUnavailable: the statement failed.
        """
        self._answer = self._loop.create_future()
        timer = self._loop.call_later(self._seconds, self._give_up, self._answer)
        try:
            self._pgconn.flush()  # A request is far shorter than what the kernel accepts at once.
            results = await self._answer
        finally:
            timer.cancel()
        for result in results:
            if result.status not in _GOOD:
                raise _failure(result)
        return results

    def _give_up(self, answer: asyncio.Future[list[PGresult]]) -> None:
        if not answer.done():
            answer.set_exception(TimeoutError())

    def _read(self) -> None:
        """Read what has arrived; an idle server that is readable has said goodbye."""
        try:
            self._pgconn.consume_input()
            while not self._pgconn.is_busy():
                result = self._pgconn.get_result()
                if result is None:
                    break
                self._results.append(result)
            else:
                return
        except psycopg.Error as error:
            self._go()
            if self._answer is not None and not self._answer.done():
                self._answer.set_exception(error)
            return
        results, self._results = self._results, []
        if results and self._answer is not None and not self._answer.done():
            self._answer.set_result(results)

    def _go(self) -> None:
        self.is_gone = True
        with suppress(OSError, ValueError, RuntimeError):  # The loop may have ended before.
            self._loop.remove_reader(self._socket)


def _text(value: bytes | None) -> str:
    return bytes(value or b"").decode()


def _failure(result: PGresult) -> DatabaseUnavailable:
    if _text(result.error_field(DiagnosticField.SQLSTATE)) in _NOT_MIGRATED:
        return db.not_migrated(_text(result.error_field(DiagnosticField.MESSAGE_PRIMARY)))
    return DatabaseUnavailable("the database did not answer in time; try again")
