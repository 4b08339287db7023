"""`python -m deploy.check_health PART`: exit 0 if this container's process does its work.

A stuck process still runs, so each check looks at what the process does for others.
"""

import socket
import sys
import urllib.error
import urllib.request
from datetime import timedelta
from typing import Final

from sqlalchemy import text

from shared.db import PATIENCE_SECONDS, Database
from shared.errors import DatabaseUnavailable
from shared.settings import Settings, read_settings

SECONDS: Final = 5
SILENCE: Final = timedelta(seconds=60)

# Loopback is asked without a proxy.
_OPENER: Final = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def is_gateway_ready(settings: Settings) -> bool:
    try:
        with _OPENER.open(f"http://127.0.0.1:{settings.port}/readyz", timeout=SECONDS) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def is_keeper_at_work(settings: Settings) -> bool:
    """Say whether the keeper of this container has used its connection lately."""
    return _ask(settings, _KEEPER, silence=SILENCE)


def is_every_worker_alive(settings: Settings, *, patience_seconds: int = PATIENCE_SECONDS) -> bool:
    """Say whether this container has workers, and each of them has had a beat lately."""
    values = {"silence": SILENCE, "host": socket.gethostname()}
    return _ask(settings, _WORKERS, patience_seconds=patience_seconds, **values)


CHECKS: Final = {
    "gateway": is_gateway_ready,
    "keeper": is_keeper_at_work,
    "worker": is_every_worker_alive,
}


def _ask(
    settings: Settings,
    question: str,
    *,
    patience_seconds: int = PATIENCE_SECONDS,
    **values: object,
) -> bool:
    """Ask the database; it has SECONDS to answer, or `patience_seconds` if that is longer."""
    db = Database(
        settings.database_url.get_secret_value(),
        deadline=timedelta(seconds=max(SECONDS, patience_seconds)),
        pool_size=1,
        name="health",
        patience_seconds=patience_seconds,
    )
    try:
        with db.autocommit() as connection:
            return bool(connection.execute(text(question), values).scalar())
    except DatabaseUnavailable:
        return False
    finally:
        db.close()


# The address tells the keepers of two containers apart.
_KEEPER: Final = """
SELECT count(*) > 0 FROM pg_stat_activity
WHERE application_name = 'keeper-reap' AND datname = current_database()
  AND client_addr = inet_client_addr() AND state_change > clock_timestamp() - :silence
"""

# The answer is NULL if there is no worker, which is not healthy either.
_WORKERS: Final = """
SELECT bool_and(beat_at > clock_timestamp() - :silence)
FROM workers WHERE host = :host AND state NOT IN ('stopped', 'lost')
"""


def main(part: str) -> int:
    return 0 if CHECKS[part](read_settings()) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
