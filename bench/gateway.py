"""Measures the gateway's answers in a second, beside a bare server on the same Postgres and store.

Run `python -m bench.gateway [--only PART] [--ended N] [--queued N]`. The two servers take turns,
so that other load of the machine meets both; only their ratio can be compared between machines.
With `--ended 1000000` the table is as large as after years. The parts:

    reads     polls, lists and models, at 1, 8 and 64 connections
    routes    each frequent read by itself, filters included
    create    a small JPEG to a queued job, at 1 and 8 connections
    listener  from a commit to each of 100 listeners
    claim     a worker's claim, with one owner's long queue
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Sequence
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Final
from uuid import UUID

from rich.console import Console
from sqlalchemy import text

from bench.gateway_arms import gateways
from bench.gateway_create import create
from bench.gateway_listeners import listeners
from bench.gateway_reads import beside, routes
from bench.noop import NoopEngine
from shared.api_keys.store import Keys
from shared.engines.registry import EngineRegistry, WorkerInfo
from tests.support.factory import JobFixture
from tests.support.many_rows import fill_ended, fill_queued
from tests.support.servers import running_servers
from tests.support.stack import Stack, open_database

PARTS: Final = ("reads", "routes", "create", "listener", "claim")
CLAIMS: Final = 30


def fill(desk: JobFixture, owner: UUID, ended: int, queued: int) -> dict[str, str]:
    """Make the table as large as after years; return a job of each kind."""
    job = desk.submit(owner_id=owner, metadata={"post": "1"})
    slow = open_database(desk.settings, deadline=timedelta(hours=1))
    with closing(slow):
        with slow.begin() as connection:
            fill_ended(connection, job.id, owner, ended)
            fill_queued(connection, job.id, owner, queued // 2)
            fill_queued(connection, job.id, UUID(int=9), queued - queued // 2)
        with slow.autocommit() as connection:
            connection.execute(text("SET statement_timeout = 0"))
            connection.execute(text("VACUUM ANALYZE jobs"))
            ended_id = connection.execute(
                text("SELECT id FROM jobs WHERE status = 'succeeded' ORDER BY id DESC LIMIT 1")
            ).scalar_one()
    return {"queued": job.public_id, "ended": f"job_{ended_id.hex}"}


def serve_noop(desk: JobFixture) -> None:
    registry = EngineRegistry(desk.db)
    registry.offer([NoopEngine.spec])
    registry.beat(
        WorkerInfo(
            name="bench",
            host="here",
            pid=1,
            device="cpu",
            device_name=None,
            vram_bytes=None,
            engines=[NoopEngine.spec.name],
            resident_engine=None,
            state="ready",
            model_loads=0,
        )
    )


def claims(desk: JobFixture, console: Console) -> None:
    times = []
    for _ in range(CLAIMS):
        began = time.perf_counter()
        assert desk.jobs.claim([NoopEngine.spec.name], worker="bench") is not None
        times.append((time.perf_counter() - began) * 1000)
    console.print(f"claim: {statistics.median(times):.1f} ms (median of {CLAIMS})")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--ended", type=int, default=10_000)
    parser.add_argument("--queued", type=int, default=200)
    parser.add_argument("--only", choices=PARTS, action="append", help="may be given again")
    asked = parser.parse_args(arguments)
    console = Console()
    with tempfile.TemporaryDirectory(prefix="stillreel-bench-") as name:
        folder = Path(name)
        with running_servers(folder, is_durable=True) as servers:
            stack = Stack(servers, folder / "data")
            run(stack, asked.only or PARTS, asked.ended, asked.queued, folder, console)


def run(
    stack: Stack, parts: Sequence[str], ended: int, queued: int, folder: Path, console: Console
) -> None:
    """Fill the table, and print the result of each part."""
    with closing(JobFixture(stack.settings())) as desk:
        serve_noop(desk)
        made, key = Keys(desk.db).create("bench")
        owner = made.owner_id
        jobs = fill(desk, owner, ended, queued)
        with gateways(stack, key, owner, jobs["ended"], folder) as (ours, bare):
            if "reads" in parts:
                beside(ours, bare, key, jobs["ended"], console)
            if "routes" in parts:
                routes(ours, key, jobs, console)
            if "create" in parts:
                create(ours, bare, key, desk, console)
            if "listener" in parts:
                listeners(ours, bare, key, owner, desk, console)
        if "claim" in parts:
            claims(desk, console)


if __name__ == "__main__":
    main()
