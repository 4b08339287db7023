"""Polls of jobs, read together: all that come while a read is under way share the next one."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Final
from uuid import UUID

import anyio.to_thread

from shared.errors import AppError, DatabaseUnavailable
from shared.jobs.job import Job, no_such_job

AT_ONCE: Final = 200
"""Jobs in one statement; with more the ones that came first go first."""

PATIENCE_SECONDS: Final = 3.5
"""How long a poll waits: with a read's own deadline before it, a client is told within 5 s."""


class JobReads:
    """Belongs to one event loop; uses one thread and one connection, however many ask."""

    def __init__(
        self,
        read: Callable[[Sequence[UUID]], Mapping[UUID, Job]],
        *,
        patience_seconds: float | None = None,
    ) -> None:
        """Without a patience of its own it has PATIENCE_SECONDS."""
        self._read = read
        self._patience_seconds = PATIENCE_SECONDS if patience_seconds is None else patience_seconds
        self._thread = anyio.CapacityLimiter(1)
        self._asked: dict[UUID, asyncio.Future[Job | None]] = {}
        self._running: asyncio.Task[None] | None = None

    async def get(self, job_id: UUID, *, owner_id: UUID) -> Job:
        """Return an owner's job, as it stands after this was asked.

        Raises:
            NotFound: foreign, deleted and missing jobs alike.
            DatabaseUnavailable: Postgres did not tell in time.
        """
        asked = self._asked.get(job_id)
        if asked is None:
            asked = self._asked[job_id] = asyncio.get_running_loop().create_future()
            # A failure that nobody waits for any more is not worth the loop's complaint.
            asked.add_done_callback(lambda done: done.cancelled() or done.exception())
        if self._running is None:
            self._running = asyncio.create_task(self._work_off())
        try:
            async with asyncio.timeout(self._patience_seconds):
                job = await asyncio.shield(asked)
        except TimeoutError as error:
            raise DatabaseUnavailable("the database did not answer in time; try again") from error
        if job is None or job.owner_id != owner_id or job.deleted_at is not None:
            raise no_such_job()
        return job

    async def _work_off(self) -> None:
        try:
            while self._asked:
                some = dict(list(self._asked.items())[:AT_ONCE])
                for job_id in some:
                    del self._asked[job_id]
                await self._answer(some)
        finally:
            self._running = None

    async def _answer(self, asked: Mapping[UUID, "asyncio.Future[Job | None]"]) -> None:
        try:
            found = await anyio.to_thread.run_sync(self._read, list(asked), limiter=self._thread)
        except Exception as error:
            if len(asked) > 1 and not isinstance(error, AppError):
                # One row that cannot be read is no failure of those that were asked for with it.
                for job_id, one in asked.items():
                    await self._answer({job_id: one})
                return
            for one in asked.values():
                if not one.done():
                    one.set_exception(error)
            return
        for job_id, one in asked.items():
            if not one.done():
                one.set_result(found.get(job_id))
