"""Our own processes as parts of the system: the migration, keeper, worker and gateway."""

import re
import signal
import sys
import urllib.error
import urllib.request
from dataclasses import replace
from pathlib import Path
from typing import Final

import psutil
import psycopg

from local.processes.process import Part
from local.room import lack_for_jobs
from local.servers.postgres import DATABASE, connect
from local.servers.services import service_env
from local.state import State
from shared.settings import Settings

ROOT: Final = Path(__file__).parents[1]
REACHED_AT: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  compared, not bound
TEMPORARY: Final = "stillreel-tmp"
"""Emptied at each start, so it has a name that no user would give to a folder."""

WORKER_SECONDS: Final = 600
"""A cold disk needs minutes to read torch; the model is loaded after that."""

REVISION: Final = re.compile(r'^revision\b.*"(\w+)"', re.MULTILINE)
BEFORE: Final = re.compile(r'^down_revision\b.*"(\w+)"', re.MULTILINE)

_OPENER: Final = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # It is loopback.


def processes(folder: Path, state: State, settings: Settings) -> tuple[Part, ...]:
    """Return them in starting order."""
    worker_id = settings.worker_id or state.worker_id
    env = {**_environment(folder, state, settings), "STILLREEL_WORKER_ID": worker_id}
    address = gateway_address(settings)

    def python(name: str, *arguments: str) -> Part:
        return Part(
            name=name,
            argv=(sys.executable, "-m", *arguments),
            log=folder / "logs" / f"{name}.log",
            cwd=ROOT,
            env=env,
            # Each process waits only for the parts that it cannot start without.
            needs=("migrate",),
            can_refuse=True,
            death_signal=signal.SIGTERM,  # They drain by themselves if the launcher is killed.
        )

    return (
        replace(
            python("migrate", "alembic", "upgrade", "head"),
            needs=("postgres",),
            runs_once=True,
            ready=lambda: is_migrated(state),
        ),
        python("keeper", "worker.keeper"),
        replace(
            python("worker", "worker"),
            address=worker_id,
            needs=("migrate", "valkey", "s3"),
            ready=lambda: is_at_work(state, worker_id),
            ready_seconds=WORKER_SECONDS,
            # The worker's own drain ends at most ten seconds after DRAIN_SECONDS.
            grace_seconds=settings.drain_seconds + 15,
            uses_proxy=True,  # It may download weights.
        ),
        replace(
            python("gateway", "api"),
            address=address,
            grace_seconds=15,  # The gateway lets requests end for ten seconds.
            # Without room it refuses new jobs, and people need it to delete old ones.
            ready=lambda: answers(
                f"{address}/livez"
                if lack_for_jobs(folder, settings.min_free_bytes)
                else f"{address}/readyz"
            ),
        ),
    )


def _environment(folder: Path, state: State, settings: Settings) -> dict[str, str]:
    """Return the settings that every process of ours gets, whatever else is in the environment."""
    servers = service_env(state)
    closed = (servers["STILLREEL_CLOSED_PORTS"], settings.closed_ports)
    return {
        **servers,
        "STILLREEL_CLOSED_PORTS": ",".join(filter(None, closed)),
        "STILLREEL_SECRET": ",".join(settings.secrets) or state.secret,
        "STILLREEL_HOST": settings.host,
        "STILLREEL_PORT": str(settings.port),
        "STILLREEL_DATA_DIR": str(folder),
        "TMPDIR": str(folder / TEMPORARY),
    }


def is_migrated(state: State) -> bool:
    """Say whether the database is at the newest migration, a second sooner than Alembic could."""
    texts = [path.read_text() for path in (ROOT / "migrations" / "versions").glob("*.py")]
    newest = set(re.findall(REVISION, "".join(texts))) - set(re.findall(BEFORE, "".join(texts)))
    try:
        with connect(state, DATABASE) as connection:
            found = connection.execute("SELECT version_num FROM alembic_version").fetchall()
    except psycopg.Error:
        return False
    return {version for (version,) in found} == newest


def is_at_work(state: State, worker_id: str) -> bool:
    """Say whether one of this machine's workers is ready for jobs."""
    query = (
        "SELECT pid FROM workers WHERE starts_with(name, %s) AND state NOT IN ('stopped', 'lost')"
        " AND beat_at > clock_timestamp() - interval '30 seconds'"
    )
    try:
        with connect(state, DATABASE) as connection:
            pids = connection.execute(query, (f"{worker_id}-",)).fetchall()
    except psycopg.Error:
        return False
    # The last beat of a killed worker is still in the table.
    return any(psutil.pid_exists(pid) for (pid,) in pids)


def gateway_address(settings: Settings) -> str:
    """Return the address under which this machine reaches the gateway."""
    host = REACHED_AT.get(settings.host, settings.host)
    return f"http://[{host}]:{settings.port}" if ":" in host else f"http://{host}:{settings.port}"


def answers(url: str) -> bool:
    """Say whether a GET gets a 200 within a second."""
    try:
        with _OPENER.open(url, timeout=1) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False
