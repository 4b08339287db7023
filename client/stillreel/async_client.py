"""The client for asyncio: each method is awaited, and each iterator is asynchronous."""

import io
import os
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self, Unpack

from stillreel import calls, download, follow
from stillreel.address import Address
from stillreel.ending import without_clip
from stillreel.installation import Key, Model, NewKey
from stillreel.job import Event, Job
from stillreel.photo import Fields, Photo
from stillreel.retry import RetryPolicy
from stillreel.transport import AsyncTransport


class AsyncClient:
    """Sends requests to one installation of Stillreel; tasks of one event loop may share it.

    Args:
        url: the address of the service; by default STILLREEL_URL, else this machine.
        key: an API key; by default STILLREEL_KEY, else none.
        retries: how often a request is sent again after an error that may go away; a RetryPolicy
            also has the pauses.
    """

    def __init__(
        self, url: str | None = None, key: str | None = None, *, retries: int | RetryPolicy = 5
    ) -> None:
        self.address = Address.given(url, key)
        self._policy = RetryPolicy.of(retries)
        self._transport = AsyncTransport(self.address)

    async def generate(
        self,
        photo: Photo,
        prompt: str = "",
        *,
        on_change: Callable[[Job], None] | None = None,
        **fields: Unpack[Fields],
    ) -> "AsyncClip":
        """Submit a photo and return its clip when it is ready.

        Args:
            on_change: called with the job after each change.

        Raises:
            JobFailed: there will be no clip; the error's `job` says why.
            JobCanceled: the job was canceled meanwhile.
        """
        job = await self.submit(photo, prompt, **fields)
        if on_change is None:
            job = await self.wait(job.id)
        else:
            async for changed in self.follow(job.id):
                job = changed
                on_change(job)
        if job.status != "succeeded":
            raise without_clip(job)
        return AsyncClip(job, self)

    async def submit(
        self,
        photo: Photo,
        prompt: str = "",
        *,
        idempotency_key: str | None = None,
        **fields: Unpack[Fields],
    ) -> Job:
        """Queue a clip and return its job at once.

        With a key of your own, two calls make one job, also from two processes.
        """
        steps = calls.submit(photo, prompt, fields, self._policy, idempotency_key=idempotency_key)
        return await self._transport.call(steps)

    async def job(self, job_id: str) -> Job:
        return await self._transport.call(calls.get_job(job_id, self._policy))

    def jobs(
        self,
        *,
        status: str | None = None,
        model: str | None = None,
        batch_id: str | None = None,
        metadata: Mapping[str, str] | None = None,
        order: str | None = None,
    ) -> AsyncIterator[Job]:
        """Iterate over all jobs that match, newest first; further pages are fetched as needed."""
        narrow = {
            "status": status,
            "model": model,
            "batch_id": batch_id,
            "metadata": metadata,
            "order": order,
        }
        return self._transport.iterate(calls.list_jobs(narrow, self._policy))

    async def wait(self, job_id: str, *, timeout_seconds: float | None = None) -> Job:
        """Return the job once it has ended, in any way.

        Raises:
            WaitTimedOut: it had not ended in that time; it goes on.
        """
        return await self._transport.call(
            follow.wait(job_id, self._policy, timeout_seconds=timeout_seconds)
        )

    def follow(self, job_id: str) -> AsyncIterator[Job]:
        """Iterate over a job as it is now and after each change, until it has ended."""
        return self._transport.iterate(follow.follow(job_id, self._policy))

    def events(self) -> AsyncIterator[Event]:
        """Iterate without end over changes of all your jobs."""
        return self._transport.iterate(follow.follow_all(self._policy))

    async def cancel(self, job_id: str) -> Job:
        """End a job for good.

        Raises:
            Conflict: it had already ended in another way.
        """
        return await self._transport.call(calls.cancel_job(job_id, self._policy))

    async def delete(self, job_id: str) -> None:
        """Remove a job and its files; a job that has not ended is canceled."""
        await self._transport.call(calls.delete_job(job_id, self._policy))

    async def download(
        self, job_id: str, path: str | os.PathLike[str], *, variant: str = "video"
    ) -> Path:
        """Save a file of a job: video, poster, gif or spritesheet. Half a file never appears."""
        return await self._transport.call(download.save(job_id, path, variant, self._policy))

    async def content(self, job_id: str, *, variant: str = "video") -> bytes:
        """Return the bytes of a file of a job."""
        job, sink = await self.job(job_id), io.BytesIO()
        await self._transport.call(download.copy(job, sink, variant, self._policy))
        return sink.getvalue()

    async def models(self) -> list[Model]:
        """Return the models, the default first."""
        return await self._transport.call(calls.list_models(self._policy))

    async def queue(self) -> dict[str, Any]:
        return await self._transport.call(calls.get_queue(self._policy))

    async def estimate(self, model: str, /, **fields: Unpack[Fields]) -> dict[str, Any]:
        """Return when a clip like this would be ready, as the service expects it."""
        return await self._transport.call(calls.estimate(model, fields, self._policy))

    async def list_keys(self) -> list[Key]:
        """Return all API keys; for admins, like the three methods below."""
        return await self._transport.call(calls.list_keys(self._policy))

    async def create_key(
        self,
        name: str,
        *,
        is_admin: bool = False,
        max_queued: int | None = None,
        max_running: int | None = None,
    ) -> NewKey:
        fields = {"is_admin": is_admin, "max_queued": max_queued, "max_running": max_running}
        return await self._transport.call(calls.create_key(name, fields, self._policy))

    async def rotate_key(self, key_id: str, *, overlap_hours: float = 0) -> NewKey:
        return await self._transport.call(calls.rotate_key(key_id, overlap_hours, self._policy))

    async def revoke_key(self, key_id: str) -> Key:
        return await self._transport.call(calls.revoke_key(key_id, self._policy))

    async def close(self) -> None:
        await self._transport.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()


@dataclass(frozen=True)
class AsyncClip:
    """A finished clip; its files are downloaded when they are asked for."""

    job: Job
    _client: AsyncClient

    async def save(self, path: str | os.PathLike[str], *, variant: str = "video") -> Path:
        """Save the video, or another file of the job, and return its path."""
        return await self._client.download(self.job.id, path, variant=variant)

    async def read(self, *, variant: str = "video") -> bytes:
        return await self._client.content(self.job.id, variant=variant)
