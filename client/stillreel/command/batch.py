"""`stillreel batch`: a folder of photos, a clip of each."""

import asyncio
from argparse import Namespace
from collections import deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from time import monotonic
from typing import Final

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from stillreel.async_client import AsyncClient
from stillreel.client import Client
from stillreel.command.console import Screen, duration
from stillreel.command.fields import UsageError, fields_of
from stillreel.command.ledger import Entry, Ledger
from stillreel.command.plan import Item, make_plan
from stillreel.ending import without_clip
from stillreel.errors import (
    ConnectionFailed,
    Forbidden,
    JobNotSucceeded,
    NotAuthenticated,
    NotFound,
    Refused,
    StillreelError,
)
from stillreel.photo import Fields

MOST_IN_FLIGHT: Final = 64
RETRIES: Final = 8
"""Some 90 seconds, so that a batch survives a restart of the service."""

MOST_PAST_TURNS: Final = 20

ENDS_ALL: Final = (NotAuthenticated, Forbidden, ConnectionFailed)
"""If one photo has one of these errors, all photos have it."""


@dataclass(frozen=True)
class Row:
    """The result for one photo: skipped, succeeded, failed, canceled, unfinished."""

    photo: str
    status: str
    clip: str | None = None
    job: str | None = None
    seconds: float | None = None
    error: str | None = None


def run(client: Client, typed: Namespace, screen: Screen) -> int:
    """Make the missing clips; return 0 if each photo has its clip afterwards."""
    if not 1 <= typed.in_flight <= MOST_IN_FLIGHT:
        raise UsageError(f"--in-flight takes a number from 1 to {MOST_IN_FLIGHT}")
    fields = fields_of(typed)
    clips = typed.output or typed.folder / "clips"
    if not typed.folder.is_dir():
        raise UsageError(f"there is no folder {typed.folder}")
    client.models()  # An error for a service that is away, or a wrong key, comes at once.
    clips.mkdir(parents=True, exist_ok=True)
    ledger = Ledger(clips)
    said = {"prompt": typed.prompt, **fields}
    items = make_plan(typed.folder, clips, typed.glob, said, ledger, may_replace=typed.replace)
    batch = Batch(client, typed.prompt, fields, clips, ledger)
    try:
        with BatchBar(screen, items) as bar:
            asyncio.run(
                batch.make([item for item in items if not item.is_done], typed.in_flight, bar)
            )
    except KeyboardInterrupt:
        show(screen, items, batch)
        leave(client, batch, screen)
        return 130
    show(screen, items, batch)
    if batch.doom is not None:
        raise batch.doom
    return 0 if all(item.is_done or _made(batch, item) for item in items) else 1


class _OfThePast(StillreelError):
    """The job that an earlier run submitted was canceled, deleted, has failed or expired."""


class Batch:
    """Submits, waits and downloads, several photos at once; `rows` has each photo's result."""

    def __init__(
        self, client: Client, prompt: str, fields: Fields, clips: Path, ledger: Ledger
    ) -> None:
        self._address = client.address
        self._prompt, self._fields = prompt, fields
        self._clips, self._ledger = clips, ledger
        self.rows: dict[str, Row] = {}
        self.live: dict[str, str] = {}
        self.doom: StillreelError | None = None

    async def make(self, items: Sequence[Item], in_flight: int, bar: "BatchBar") -> None:
        waiting = deque(items)

        async def work(client: AsyncClient) -> None:
            while waiting and self.doom is None:
                item = waiting.popleft()
                row = await self._row(client, item)
                self.live.pop(item.photo, None)
                self.rows[item.photo] = row
                bar.advance(row, len(self.live))

        address = self._address
        async with (
            AsyncClient(address.url, address.key, retries=RETRIES) as client,
            asyncio.TaskGroup() as group,
        ):
            for _ in range(min(in_flight, len(items))):
                group.create_task(work(client))

    async def _row(self, client: AsyncClient, item: Item) -> Row:
        began = monotonic()
        try:
            entry = await self._newest(client, item)
        except ENDS_ALL as error:
            self.doom = self.doom or error
            return Row(item.photo, "unfinished", error=str(error))
        except (StillreelError, OSError) as error:
            status = error.job.status if isinstance(error, JobNotSucceeded) else "failed"
            return Row(item.photo, status, job=self.live.get(item.photo), error=str(error))
        seconds = round(monotonic() - began, 1)
        return Row(item.photo, "succeeded", item.clip.as_posix(), entry.job, seconds)

    async def _newest(self, client: AsyncClient, item: Item) -> Entry:
        """Make the clip by the first usable job, of earlier runs or a new one."""
        for _ in range(MOST_PAST_TURNS):
            try:
                return await self._clip(client, item)
            except _OfThePast:
                item = item.next_turn()
        return await self._clip(client, item)

    async def _clip(self, client: AsyncClient, item: Item) -> Entry:
        """Submit a photo, wait, and save its clip.

        Raises:
            _OfThePast: the job is of an earlier run, and can no longer be used.
            StillreelError, OSError: there is no clip.
        """
        key = item.key(self._ledger)
        try:
            job = await client.submit(
                item.source, self._prompt, idempotency_key=key, **self._fields
            )
            if job.status in ("failed", "canceled"):
                raise _OfThePast(f"{job.id} {job.status}")
            self.live[item.photo] = job.id
            self._note(item, job.id, "submitted")
            return await self._saved(client, item, job.id)
        except Refused as error:
            if isinstance(error, NotFound) or error.code == "idempotency_conflict":
                raise _OfThePast(str(error)) from error
            raise

    async def _saved(self, client: AsyncClient, item: Item, job_id: str) -> Entry:
        job = await client.wait(job_id)
        if job.status != "succeeded":
            self._note(item, job.id, job.status)
            raise without_clip(job)
        item.clip.parent.mkdir(parents=True, exist_ok=True)
        await client.download(job.id, item.clip)
        return self._note(item, job.id, "succeeded", item.clip.stat().st_size)

    def _note(self, item: Item, job_id: str, status: str, size: int | None = None) -> Entry:
        clip = item.clip.relative_to(self._clips).as_posix()
        entry = Entry(item.photo, clip, item.asked, item.turn, job_id, status, size)
        self._ledger.write(entry)
        return entry


class BatchBar:
    """One line on the terminal: how many clips are finished, in progress, failed."""

    def __init__(self, screen: Screen, items: Sequence[Item]) -> None:
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=screen.err,
            disable=not screen.err.is_terminal,
        )
        done = sum(item.is_done for item in items)
        self._failed = 0
        self._bar = self._progress.add_task("clips", total=len(items), completed=done)

    def advance(self, row: Row, live: int) -> None:
        self._failed += row.status != "succeeded"
        said = f"clips, {live} at work" + (f", {self._failed} failed" if self._failed else "")
        self._progress.update(self._bar, advance=1, description=said)

    def __enter__(self) -> "BatchBar":
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()


def show(screen: Screen, items: Sequence[Item], batch: Batch) -> None:
    """Print the result for each photo, and how many photos have each result."""
    rows = [_row_of(item, batch) for item in items]
    if screen.is_json:
        screen.json([asdict(row) for row in rows])
        return
    screen.table(
        ("photo", "result", "took", "clip or reason"),
        ((row.photo, row.status, duration(row.seconds), row.clip or row.error) for row in rows),
    )
    statuses = dict.fromkeys(row.status for row in rows)
    counts = (f"{sum(row.status == status for row in rows)} {status}" for status in statuses)
    screen.line(", ".join(counts))


def leave(client: Client, batch: Batch, screen: Screen) -> None:
    """Ask whether to cancel the jobs that still run, and say how to continue."""
    jobs = list(batch.live.values())
    if jobs and screen.confirms(f"{len(jobs)} jobs go on after this command ends. Cancel them?"):
        for job_id in jobs:
            try:
                client.cancel(job_id)
            except StillreelError as error:
                screen.note(f"{job_id}: {error}")
    screen.note("interrupted; the same command continues from here")


def _row_of(item: Item, batch: Batch) -> Row:
    if item.is_done:
        return Row(item.photo, "skipped", clip=item.clip.as_posix())
    unfinished = Row(item.photo, "unfinished", job=batch.live.get(item.photo))
    return batch.rows.get(item.photo, unfinished)


def _made(batch: Batch, item: Item) -> bool:
    row = batch.rows.get(item.photo)
    return row is not None and row.status == "succeeded"
