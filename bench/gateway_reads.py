"""Measures polls, lists and models beside a bare handler, and each frequent read by itself."""

from functools import partial
from typing import Final

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from bench.gateway_arms import COMPARED, HEADS, Arm, Measured, add_turns, measure, reading

CONNECTIONS: Final = (1, 8, 64)

ROUTES: Final = (
    "/v1/jobs/{ended}",
    "/v1/jobs/{queued}",
    "/v1/jobs?limit=20",
    "/v1/jobs?status=failed",
    "/v1/jobs?status=queued&model=noop",
    "/v1/jobs?metadata[post]=77",
    "/v1/jobs?q=nothing",
    "/v1/jobs?q=nothing&status=failed",
    "/v1/models",
    "/v1/models/noop/estimate",
    "/v1/queue",
)


def beside(ours: Arm, bare: Arm, key: str, job: str, console: Console) -> None:
    """Print both arms' answers a second for the reads that clients send most."""
    for path in COMPARED.values():
        table = Table(*HEADS, title=f"GET {path.format(job='{id}')}")
        request = reading(path.format(job=job), key)
        for connections in CONNECTIONS:
            add_turns(table, str(connections), partial(_turn, ours, bare, request, connections))
        console.print(table)


def _turn(ours: Arm, bare: Arm, request: bytes, connections: int) -> tuple[Measured, Measured]:
    return measure(ours, request, connections), measure(bare, request, connections)


def routes(ours: Arm, key: str, jobs: dict[str, str], console: Console) -> None:
    """Print the time of each frequent read at one connection."""
    table = Table("route", "/s", "median ms", title="one connection")
    for path in ROUTES:
        found = measure(ours, reading(path.format(**jobs), key), 1)
        table.add_row(escape(path), f"{found.rate:.0f}", f"{found.median_ms:.1f}")
    console.print(table)
