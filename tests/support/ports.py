"""Ports for the servers that tests start, none of them drawn twice."""

import os
from collections.abc import Iterator
from itertools import cycle
from random import SystemRandom
from typing import Final

from local import ports
from local.servers.services import PORTS, choose_ports

SET_ASIDE: Final = range(13000, 16000)
"""Separate from `local.ports.MOVED`, from which the services under test draw, and also below the
ports that kernels lend to outgoing connections."""


def free_port(host: str = "127.0.0.1") -> int:
    """Return a port where a server can listen and no other program will begin to.

    Between a check and a start, a server of another test process could take a port that both drew,
    and a test would then talk to a stranger. So each process of pytest-xdist draws from its own
    share, and reuses a number only after all the others.
    """
    return next(port for port in DRAWN if ports.is_free(port, host))


def service_ports() -> dict[str, int]:
    """Return a free port for each that Postgres, Valkey and SeaweedFS open."""
    return choose_ports({name: free_port() for name in PORTS})


def _share() -> list[int]:
    """Return this process's numbers, shuffled apart from `random`, which tests seed alike."""
    number = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    count = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    share = list(SET_ASIDE[number::count])
    SystemRandom().shuffle(share)
    return share


DRAWN: Final[Iterator[int]] = cycle(_share())
