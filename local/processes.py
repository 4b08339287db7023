"""Our own processes as parts: the migration, the keeper, the worker and the gateway."""

import signal
import sys
import urllib.error
import urllib.request
from dataclasses import replace
from pathlib import Path
from typing import Final

from local.part import Part
from local.services import service_env
from local.state import State
from shared.settings import Settings

ROOT: Final = Path(__file__).parents[1]
REACHED_AT: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  compared, not bound

_OPENER: Final = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # It is loopback.


def processes(folder: Path, state: State, settings: Settings) -> tuple[Part, ...]:
    """Return them in the order in which they start."""
    worker_id = settings.worker_id or state.worker_id
    env = {
        **service_env(state),
        "STILLREEL_HOST": settings.host,
        "STILLREEL_PORT": str(settings.port),
        "STILLREEL_WORKER_ID": worker_id,
        "STILLREEL_DATA_DIR": str(folder),
    }
    address = gateway_address(settings)

    def python(name: str, *arguments: str) -> Part:
        return Part(
            name=name,
            argv=(sys.executable, "-m", *arguments),
            log=folder / "logs" / f"{name}.log",
            cwd=ROOT,
            env=env,
            needs=("postgres", "valkey", "s3", "migrate"),
            death_signal=signal.SIGTERM,  # They drain by themselves when the launcher is killed.
        )

    return (
        replace(
            python("migrate", "alembic", "upgrade", "head"), needs=("postgres",), runs_once=True
        ),
        python("keeper", "worker.keeper"),
        replace(
            python("worker", "worker"),
            address=worker_id,
            # The worker's own drain ends ten seconds after DRAIN_SECONDS at the latest.
            grace_seconds=settings.drain_seconds + 15,
        ),
        replace(
            python("gateway", "api"),
            address=address,
            ready=lambda: answers(f"{address}/readyz"),
        ),
    )


def gateway_address(settings: Settings) -> str:
    """Return the address under which this machine reaches the gateway."""
    host = REACHED_AT.get(settings.host, settings.host)
    return f"http://[{host}]:{settings.port}" if ":" in host else f"http://{host}:{settings.port}"


def answers(url: str) -> bool:
    """Say whether a GET is answered with 200 within a second."""
    try:
        with _OPENER.open(url, timeout=1) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False
