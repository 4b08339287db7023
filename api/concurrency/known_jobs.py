"""Jobs that were read before, and are sent again while their rows are unchanged."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Final
from uuid import UUID

import anyio.to_thread

from api.concurrency.shared_reads import SharedReads
from shared.errors import DatabaseUnavailable
from shared.jobs.heads import Head, JobHeads
from shared.jobs.job import Job, no_such_job

MOST_KNOWN: Final = 1000
"""About 10 kB each, with the stored answers; the job that was unused for longest is dropped."""

PATIENCE_SECONDS: Final = 3.5
"""How long a poll waits; together with the read's own deadline a client has an answer within 5
s."""


class KnownJob:
    """A job at one head; `kept` is the last answer made of it, and its case."""

    def __init__(self, job: Job, head: Head) -> None:
        self.job = job
        self.head = head
        self.kept: tuple[object, object] | None = None


class KnownJobs:
    """Reads a job's head at each poll, and the rest only if the head is new.

    It belongs to one event loop. What is kept under a head is at least as new as the head: it was
    read after it.
    """

    def __init__(
        self,
        heads: JobHeads,
        read: Callable[[Sequence[UUID]], Mapping[UUID, Job]],
        *,
        patience_seconds: float = PATIENCE_SECONDS,
    ) -> None:
        self._patience_seconds = patience_seconds
        self._heads_of = heads
        self._heads = SharedReads(heads.many)
        self._thread = anyio.CapacityLimiter(1)
        self._read = read
        self._jobs = SharedReads(self._read_on_a_thread)
        self._newest = SharedReads(self._read_newest)
        self._known: OrderedDict[UUID, KnownJob] = OrderedDict()

    async def get(self, job_id: UUID, *, owner_id: UUID) -> KnownJob:
        """Return an owner's job, as it is after this call.

        Raises:
            NotFound: foreign, deleted and missing jobs alike.
            DatabaseUnavailable: Postgres did not answer in time.
        """
        ends_at = asyncio.get_running_loop().time() + self._patience_seconds
        head = await self._heads.get(job_id)
        if head is None or head.is_deleted or head.owner_id != str(owner_id):
            raise no_such_job()
        known = await self._under(job_id, head, ends_at)
        if known is None:
            raise no_such_job()
        return known

    async def newest(self, owner_id: UUID, limit: int) -> list[KnownJob]:
        """Return an owner's newest jobs, the newest first.

        Raises:
            DatabaseUnavailable: as `get`.
        """
        ends_at = asyncio.get_running_loop().time() + self._patience_seconds
        heads = await self._newest.get((owner_id, limit)) or {}
        # All together, so that the new ones share one read.
        found = await asyncio.gather(
            *(self._under(job_id, head, ends_at) for job_id, head in heads.items())
        )
        return [known for known in found if known is not None]

    async def _under(self, job_id: UUID, head: Head, ends_at: float) -> KnownJob | None:
        """Return the job of a head, and read it if it is new; None if it was deleted since."""
        known = self._known.get(job_id)
        if known is not None and known.head == head:
            self._known.move_to_end(job_id)
            return known
        try:
            async with asyncio.timeout_at(ends_at):
                job = await self._jobs.get(job_id)
        except TimeoutError as error:
            raise DatabaseUnavailable("the database did not answer in time; try again") from error
        return None if job is None or job.deleted_at else self._keep(KnownJob(job, head))

    def _keep(self, known: KnownJob) -> KnownJob:
        self._known[known.job.id] = known
        self._known.move_to_end(known.job.id)
        if len(self._known) > MOST_KNOWN:
            self._known.popitem(last=False)
        return known

    async def _read_newest(
        self, asked: Sequence[tuple[UUID, int]]
    ) -> dict[tuple[UUID, int], dict[UUID, Head]]:
        return {page: await self._heads_of.newest(*page) for page in asked}

    async def _read_on_a_thread(self, job_ids: Sequence[UUID]) -> Mapping[UUID, Job]:
        return await anyio.to_thread.run_sync(self._read, job_ids, limiter=self._thread)
