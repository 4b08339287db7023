"""Run the gateway: `python -m api`; or manage its keys: `python -m api keys …`."""

import errno
import os
import socket
import sys
from collections.abc import Sequence
from typing import Final

import structlog
import uvicorn
from fastapi import FastAPI

from api import cli
from api.app import create_app
from api.server import descriptors, malloc, threads
from api.server.http_protocol import BoundedProtocol
from shared import logs
from shared.api_keys.store import Keys
from shared.errors import DatabaseUnavailable
from shared.installation_secret import MISSING
from shared.settings import LOOPBACK, Settings, read_settings
from shared.stopping import on_stop
from shared.wrong_settings import misspelled_settings, open_to_strangers

_log = structlog.get_logger(__name__)

GRACE_SECONDS: Final = 10
"""Longer than any create takes; at a stop, waiting requests are released at once."""

WRONG_SETTINGS: Final = 2
"""The exit status for wrong settings: another start would end in the same way."""

KEEP_ALIVE_SECONDS: Final = 75  # Above the idle time of the usual proxies, which then close first.


class Server(uvicorn.Server):
    """Serves the app; on a stop it releases the requests that wait for a job or a turn."""

    def __init__(self, app: FastAPI) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                log_config=None,
                access_log=False,  # The edge writes one line per request, with its id.
                server_header=False,
                proxy_headers=False,
                ws="none",
                http=BoundedProtocol,
                timeout_keep_alive=KEEP_ALIVE_SECONDS,
                timeout_graceful_shutdown=GRACE_SECONDS,
            )
        )
        self._app = app

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._app.state.ports.job_watcher.release()
        self._app.state.ports.pools.stop()
        await super().shutdown(sockets)


def main(arguments: Sequence[str] = ()) -> int:
    asked = cli.parse(arguments)
    settings = read_settings()
    if asked.command == "keys":
        return cli.manage_keys(asked, settings)
    if not settings.secrets:
        return _refuse(MISSING, status=WRONG_SETTINGS)
    if is_open(settings):
        return _refuse(open_to_strangers(settings.host), status=WRONG_SETTINGS)
    try:
        listener = listen(settings.host, settings.port)
    except OSError as error:
        return _refuse(_why_not(error, settings))
    logs.set_up(settings, process="gateway")
    for strange in misspelled_settings(os.environ, Settings.model_fields):
        _log.warning("unknown_setting", reason=strange)
    malloc.limit_heap_growth()
    descriptors.raise_limit()
    threads.take_short_turns()
    server = Server(create_app(settings))
    # The handlers also work before the server listens to signals itself, and after it has stopped,
    # when it raises them again: then that is an orderly end.
    on_stop(server.handle_exit)
    server.run(sockets=[listener])
    return 0


def is_open(settings: Settings) -> bool:
    """Say whether other machines could send requests although nobody has allowed it.

    If Postgres is away this is not known, and the gateway starts: while Postgres is away each
    request gets a 503, and after that a stranger without a key gets a 401.
    """
    if settings.host in LOOPBACK or settings.allow_anonymous:
        return False
    if settings.admin_key is not None or settings.trusted_header is not None:
        return False  # Somebody has a key, and strangers are refused.
    db = cli.open_database(settings)
    try:
        return Keys(db).load_all().is_empty
    except DatabaseUnavailable:
        return False
    finally:
        db.close()


def listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=2048)


def _why_not(error: OSError, settings: Settings) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"port {settings.port} is in use; stop what holds it, or set STILLREEL_PORT"
    return f"cannot listen on {settings.host} port {settings.port}: {error.strerror}"


def _refuse(reason: str, *, status: int = 1) -> int:
    print(reason, file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
