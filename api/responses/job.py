"""A job as the body and headers of an answer."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Self, cast

from fastapi import Response

from api.concurrency.known_jobs import KnownJob
from api.ports import Ports
from api.responses.file import is_known
from api.responses.listing import ListOf
from shared.errors import Unavailable
from shared.jobs.estimates import QueueBoard
from shared.jobs.job import Job, QueuePlace
from shared.jobs.view import JobView, etag, job_view
from shared.lifecycle import LIVE, Status

POLL_SECONDS: Final = (1, 10)
"""The least and the most seconds that we ask a client to wait before the next poll."""


class JobList(ListOf[JobView]):
    """One page of a listing; the next one starts `after` its `last_id`."""


class SearchedJobList(JobList):
    """A page of the jobs found; `is_cut` says that older jobs were not searched."""

    is_cut: bool


@dataclass(frozen=True)
class Shown:
    """A job's body as JSON, and its validator."""

    body: bytes
    etag: str

    @classmethod
    def of(cls, view: JobView) -> Self:
        return cls(view.model_dump_json().encode(), etag(view))


class JobAnswer:
    """A job as it is at this moment, with its validator."""

    def __init__(self, job: Job, place: QueuePlace | None, shown: Shown) -> None:
        self._job = job
        self._place = place
        self._body = shown.body
        self._etag = shown.etag

    def is_known_by(self, if_none_match: str | None) -> bool:
        """Say whether the client has exactly this body."""
        return is_known(self._etag, if_none_match)

    def response(self, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
        return Response(
            self._body,
            status,
            headers={**self._headers(), **(headers or {})},
            media_type="application/json",
        )

    def not_modified(self) -> Response:
        return Response(status_code=304, headers=self._headers())

    def _headers(self) -> dict[str, str]:
        headers = {"ETag": self._etag, "Cache-Control": "private, no-cache"}
        return headers | poll_headers(self._job, self._place)


def answer(ports: Ports, job: Job, base_url: str) -> JobAnswer:
    """Return the job with its place in the queue and its expected end, if they are known."""
    board = ports.queues.get() if job.status in LIVE else None
    return _answer(ports, job, board, base_url)


async def answer_later(ports: Ports, job: Job, base_url: str) -> JobAnswer:
    """Return the same on the loop; it waits for a thread only if the queues are old."""
    return _answer(ports, job, await queue_board(ports, job), base_url)


def _answer(ports: Ports, job: Job, board: QueueBoard | None, base_url: str) -> JobAnswer:
    place = None if board is None else board.place(job)
    return JobAnswer(job, place, Shown.of(view(ports, job, base_url, board=board)))


async def answer_known(ports: Ports, known: KnownJob, base_url: str) -> JobAnswer:
    """Return the same for a job read before; the body of an ended job is not written again."""
    if known.job.status in LIVE:
        return await answer_later(ports, known.job, base_url)
    return JobAnswer(known.job, None, shown_alone(ports, known, base_url))


def shown_alone(ports: Ports, known: KnownJob, base_url: str) -> Shown:
    """Return a job as lists show it, without its place; write it once while its links last."""
    case = base_url, ports.links.expires(datetime.now(UTC))
    if known.kept is None or known.kept[0] != case:
        known.kept = case, Shown.of(view(ports, known.job, base_url))
    return cast(Shown, known.kept[1])


async def queue_board(ports: Ports, job: Job) -> QueueBoard | None:
    """Return the queues for a live job, shared by all callers.

    If they cannot be read, the job is shown without its place, because the job itself was read.
    """
    if job.status not in LIVE:
        return None
    recent = ports.queues.recent()
    if recent is not None and job.status is Status.RUNNING:
        return recent  # It has no place, and what renders take changes slowly.
    if not ports.queues.is_fresh:
        with suppress(Unavailable):
            return await ports.pools.database.run(ports.queues.get, owner_id=job.owner_id)
    return ports.queues.peek()


def view(ports: Ports, job: Job, base_url: str, *, board: QueueBoard | None = None) -> JobView:
    """Return the job as its owner sees it now, with links that begin with `base_url`."""
    return job_view(
        job,
        links=ports.links,
        base_url=base_url,
        now=datetime.now(UTC),
        place=None if board is None else board.place(job),
        expected=None if board is None else board.expected(job),
    )


def known_list(ports: Ports, jobs: Sequence[KnownJob], base_url: str, *, has_more: bool) -> bytes:
    """Return a `JobList` of these jobs, whose bodies are written once while they are unchanged."""
    bodies = b",".join(shown_alone(ports, known, base_url).body for known in jobs)
    ids = [known.job.public_id for known in jobs]
    ends = JobList(
        data=[],
        first_id=ids[0] if ids else None,
        last_id=ids[-1] if ids else None,
        has_more=has_more,
    )
    return ends.model_dump_json().encode().replace(b'"data":[]', b'"data":[' + bodies + b"]", 1)


def poll_headers(job: Job, place: QueuePlace | None) -> dict[str, str]:
    """Return the headers that say when to poll again, for a job that has not ended."""
    if job.status not in LIVE:
        return {}
    seconds = poll_seconds(job, place)
    return {"Retry-After": str(seconds), "openai-poll-after-ms": str(seconds * 1000)}


def poll_seconds(job: Job, place: QueuePlace | None) -> int:
    """Return when to poll again: after a quarter of the remaining time, if it is known."""
    left = job.eta_seconds if job.status is Status.RUNNING else place and place.eta_seconds
    least, most = POLL_SECONDS
    return max(least, min(most, round((left or 0) / 4)))
