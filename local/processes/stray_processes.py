"""Processes that an earlier launcher left running when it was killed."""

import contextlib
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Final

import psutil

from local.processes.process import MARK, wait_gone

SERVERS: Final = ("postgres", "valkey-server", "weed")
STOP_SECONDS: Final = 4


def end_leftovers(folder: Path) -> list[str]:
    """Stop every process that was started from this data folder; return the names.

    The mark in its environment shows that a process is ours, not a remembered pid, which may
    belong to another process by now. Call this only while holding the folder's lock.
    """
    ours = _find(
        lambda process: (
            process.environ().get(MARK) == str(folder) or _is_postgres_in(process, folder / "pg")
        )
    )
    # A worker hands its job back to the database, so the servers are stopped last.
    return _end(ours, lambda name: name not in SERVERS) + _end(ours, SERVERS.__contains__)


def end_postgres_in(pg: Path) -> None:
    """Stop all processes of a cluster, including the backends of a dead server."""
    _end(_find(lambda process: _is_postgres_in(process, pg)))


def _is_postgres_in(process: psutil.Process, pg: Path) -> bool:
    """Postgres writes its title over its environment, but works in its data folder."""
    return process.name() == "postgres" and process.cwd() == str(pg)


def _find(is_ours: Callable[[psutil.Process], bool]) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        # The process has ended, or belongs to another user.
        with contextlib.suppress(psutil.Error):
            if process.pid != os.getpid() and is_ours(process):
                found.append(process)
    return found


def _end(
    processes: list[psutil.Process], is_meant: Callable[[str], bool] = lambda name: True
) -> list[str]:
    meant = {}
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            if is_meant(process.name()):
                meant[process] = process.name()
    for process in meant:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.resume()  # A frozen process could not stop.
    pids = {process.pid for process in meant}
    for process, name in meant.items():
        with contextlib.suppress(psutil.NoSuchProcess):
            # Only heads: SIGINT makes a living server's checkpointer shut the log under it.
            if process.ppid() not in pids:
                process.send_signal(signal.SIGINT if name == "postgres" else signal.SIGTERM)
    wait_gone(meant, STOP_SECONDS)
    for process in meant:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    wait_gone(meant, STOP_SECONDS)
    return list(meant.values())
