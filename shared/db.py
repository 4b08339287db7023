"""The one database path: short transactions, each under a deadline that a frozen server meets."""

import heapq
import itertools
import json
import os
import select
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, Final

from psycopg import errors
from sqlalchemy import Connection, PoolProxiedConnection, create_engine, event, exc
from sqlalchemy.engine.interfaces import DBAPIConnection, ExceptionContext
from sqlalchemy.pool import ConnectionPoolEntry

from shared.errors import DatabaseUnavailable
from shared.server_urls import connect_arguments

PATIENCE_SECONDS: Final = 2
"""How long one use waits for the server, and before that for a connection that others hold."""

_NOT_MIGRATED: Final = (errors.UndefinedTable, errors.UndefinedColumn)
IDLE_IN_TRANSACTION_MS: Final = 15_000  # A frozen process must not sit on row locks for ever.


class Database:
    """A pool of Postgres connections whose every use ends within `deadline`.

    statement_timeout, keepalives and tcp_user_timeout together were measured not to free a
    client from a frozen server; closing the socket does, so a watchdog shuts it.
    """

    def __init__(
        self,
        url: str,
        *,
        deadline: timedelta,
        pool_size: int = 5,
        name: str = "stillreel",
        patience_seconds: int = PATIENCE_SECONDS,
    ) -> None:
        self._deadline = deadline.total_seconds()
        self._watchdog = _Watchdog()
        self._engine = create_engine(
            url,
            pool_size=pool_size,
            max_overflow=0,
            # The library's errors reach the log, and prompts and secrets would be in them.
            hide_parameters=True,
            pool_timeout=patience_seconds,
            json_serializer=_to_json,
            connect_args={
                "connect_timeout": patience_seconds,
                "application_name": name,
                "options": session_options(deadline, url),
            },
        )
        self._autocommit = self._engine.execution_options(isolation_level="AUTOCOMMIT")
        event.listen(self._engine, "checkout", _refuse_a_closed_connection)
        event.listen(self._engine, "handle_error", _leave_a_server_that_only_reads)

    @contextmanager
    def begin(self) -> Iterator[Connection]:
        """Yield a connection in a transaction that is committed at the end.

        Raises:
            DatabaseUnavailable: the server is away, frozen, too slow or accepts no writes, or it
                lacks our tables. A commit may then have happened or not: read again before acting
                again.
        """
        with self._watched(autocommit=False) as connection, connection.begin():
            yield connection

    @contextmanager
    def autocommit(self) -> Iterator[Connection]:
        """Yield a connection in autocommit, for single statements.

        Raises:
            DatabaseUnavailable: as `begin`.
        """
        with self._watched(autocommit=True) as connection:
            yield connection

    def close(self) -> None:
        self._engine.dispose()
        self._watchdog.stop()

    @contextmanager
    def _watched(self, *, autocommit: bool) -> Iterator[Connection]:
        ends_at = time.monotonic() + self._deadline
        engine = self._autocommit if autocommit else self._engine
        try:
            with (
                engine.connect() as connection,
                self._watchdog.watch(connection.connection, ends_at),
            ):
                yield connection
        except (exc.OperationalError, exc.InterfaceError, exc.TimeoutError) as error:
            raise DatabaseUnavailable("the database did not answer in time; try again") from error
        except exc.DBAPIError as error:
            if isinstance(error.orig, errors.ReadOnlySqlTransaction):
                raise DatabaseUnavailable(
                    "the database takes no writes now: it is read-only or failed over; try again"
                ) from error
            if error.connection_invalidated:
                raise DatabaseUnavailable("the database closed the connection") from error
            if isinstance(error.orig, _NOT_MIGRATED):
                raise not_migrated(error.orig.diag.message_primary) from None
            raise


def session_options(deadline: timedelta, url: str) -> str:
    """Return what a new connection tells the server: the options of its URL, and ours."""
    given = connect_arguments(url).get("options", "")
    return (
        f"{given} -c statement_timeout={int(deadline.total_seconds() * 1000)}"
        f" -c idle_in_transaction_session_timeout={IDLE_IN_TRANSACTION_MS}"
        " -c timezone=UTC"
    )


def not_migrated(what: str | None) -> DatabaseUnavailable:
    """Return the error for a server that lacks our tables; `what` is the server's message."""
    return DatabaseUnavailable(
        f"the database is not this version's ({what}); run `alembic upgrade head`"
    )


class _Watchdog:
    """One thread that shuts the socket of any connection held past its deadline."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._order = itertools.count()
        self._held: list[tuple[float, int]] = []
        self._connections: dict[int, PoolProxiedConnection] = {}
        self._stopped = False
        self._thread: threading.Thread | None = None

    @contextmanager
    def watch(self, connection: PoolProxiedConnection, ends_at: float) -> Iterator[None]:
        ticket = next(self._order)
        with self._condition:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="db-deadline", daemon=True)
                self._thread.start()
            self._connections[ticket] = connection
            heapq.heappush(self._held, (ends_at, ticket))
            if self._held[0][1] == ticket:
                self._condition.notify()
        try:
            yield
        finally:
            with self._condition:
                self._connections.pop(ticket, None)

    def stop(self) -> None:
        with self._condition:
            self._stopped = True
            self._condition.notify()

    def _run(self) -> None:
        with self._condition:
            while not self._stopped:
                while self._held and self._held[0][1] not in self._connections:
                    heapq.heappop(self._held)
                if not self._held:
                    self._condition.wait()
                    continue
                wait = self._held[0][0] - time.monotonic()
                if wait > 0:
                    self._condition.wait(wait)
                    continue
                _, ticket = heapq.heappop(self._held)
                _shut(self._connections.pop(ticket))


def _shut(connection: PoolProxiedConnection) -> None:
    """Shut the socket under a connection; the thread that waits on it gets an OperationalError."""
    driver: Any = connection.dbapi_connection
    try:
        with socket.socket(fileno=os.dup(driver.fileno())) as duplicate:
            duplicate.shutdown(socket.SHUT_RDWR)
    except (OSError, AttributeError, exc.DBAPIError, driver.__class__.OperationalError):
        return  # The socket was closed in the meantime, so the wait is already over.


def _refuse_a_closed_connection(
    connection: DBAPIConnection, record: ConnectionPoolEntry, proxy: PoolProxiedConnection
) -> None:
    """Make the pool replace a connection that its server closed, without asking the server.

    An idle connection sends nothing: a readable one holds an end-of-file or a goodbye. A ping
    would cost a round trip and hang on a frozen server.
    """
    driver: Any = connection
    look = select.poll()  # select() would fail from descriptor 1024 on.
    look.register(driver.fileno(), select.POLLIN)
    if look.poll(0):
        raise exc.DisconnectionError("the server closed an idle connection")


def _leave_a_server_that_only_reads(context: ExceptionContext) -> None:
    """Make the pool reconnect after a refused write, because another server may be primary now.

    The connections to a primary that was demoted stay open, and would refuse every write for as
    long as the process lives.
    """
    if isinstance(context.original_exception, errors.ReadOnlySqlTransaction):
        context.is_disconnect = True


def _to_json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
