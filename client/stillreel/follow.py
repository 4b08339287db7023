"""Watching jobs: by server-sent events, and by polling if there is no stream."""

import json
from collections.abc import Mapping
from time import monotonic
from typing import Final

from stillreel.calls import get_job, job_path, list_page
from stillreel.decode import body, decode
from stillreel.errors import NotFound, WaitTimedOut
from stillreel.event_stream import EventStream, NoStream
from stillreel.job import Event, Job
from stillreel.retry import RetryPolicy, send
from stillreel.server_sent_events import ServerSentEvent
from stillreel.steps import Found, Iteration, Pause, Request, Steps

WAIT_SECONDS: Final = 30
"""How long one poll waits at the service for a change."""

DELETED: Final = 2**62
"""Stands for the version of a deleted job: nothing comes after it."""


def wait(job_id: str, policy: RetryPolicy, *, timeout_seconds: float | None) -> Steps[Job]:
    """Return the job once it has ended, in any way.

    Raises:
        WaitTimedOut: it had not ended in that time; it goes on.
    """
    ends_at = None if timeout_seconds is None else monotonic() + timeout_seconds
    seconds = 0
    while True:
        job = decode(Job, body((yield from send(_poll(job_id, seconds), policy))))
        if job.has_ended:
            return job
        left = WAIT_SECONDS if ends_at is None else ends_at - monotonic()
        if left <= 0:
            raise WaitTimedOut(f"{job.id} is still {job.status}; it goes on", job)
        seconds = max(1, min(WAIT_SECONDS, round(left)))
        yield Pause(min(policy.poll_pause_seconds, left))


def follow(job_id: str, policy: RetryPolicy) -> Iteration[Job]:
    """Find a job as it is now and after each change, until it has ended."""
    stream, seen = EventStream(f"{job_path(job_id)}/events", policy), -1
    while True:
        try:
            events = yield from stream.read()
        except NoStream:
            break
        for news in filter(None, map(_news_of, events)):
            if news.job is not None and news.job.version > seen:
                seen = news.job.version
                yield Found(news.job)
                if news.job.has_ended:
                    return
        if any(event.name in ("end", "deleted") for event in events):
            break
    yield from _poll_one(job_id, seen, policy)


def follow_all(policy: RetryPolicy) -> Iteration[Event]:
    """Find changes of all the caller's jobs without end; repeats are left out."""
    stream, seen = EventStream("/v1/events", policy), dict[str, int]()
    while True:
        try:
            events = yield from stream.read()
        except NoStream:
            break
        for news in filter(None, map(_news_of, events)):
            if _is_new(news, seen):
                yield Found(news)
    yield from _poll_all(seen, policy)


def _poll(job_id: str, seconds: int, headers: Mapping[str, str] | None = None) -> Request:
    return Request(
        "GET",
        job_path(job_id),
        params={"wait": str(seconds)} if seconds else {},
        headers=headers or {},
        read_seconds=seconds + 30.0,
    )


def _poll_one(job_id: str, seen: int, policy: RetryPolicy) -> Iteration[Job]:
    known: dict[str, str] = {}
    while True:
        answer = yield from send(_poll(job_id, WAIT_SECONDS if known else 0, known), policy)
        if answer.status != 304:
            job = decode(Job, body(answer))
            if job.version > seen:
                seen = job.version
                yield Found(job)
            if job.has_ended:
                return
            known = {"If-None-Match": answer.headers.get("etag", "")}
        yield Pause(policy.poll_pause_seconds)


def _poll_all(seen: dict[str, int], policy: RetryPolicy) -> Iteration[Event]:
    """Poll the live jobs every two seconds, and once more each job that has left them."""
    live: set[str] = set()
    while True:
        found = yield from _live_jobs(policy)
        for job_id in sorted(live - found.keys()):
            try:
                found[job_id] = yield from get_job(job_id, policy)
            except NotFound:
                yield Found(Event(job_id, None))
        for job in found.values():
            if _is_new(Event(job.id, job), seen):
                yield Found(Event(job.id, job))
        live = {job.id for job in found.values() if not job.has_ended}
        yield Pause(policy.list_pause_seconds)


def _live_jobs(policy: RetryPolicy) -> Steps[dict[str, Job]]:
    found: dict[str, Job] = {}
    for status in ("queued", "running"):
        after, has_more = None, True
        while has_more:
            jobs, has_more = yield from list_page({"status": status}, after, policy)
            found |= {job.id: job for job in jobs}
            after = jobs[-1].id if jobs else None
    return found


def _is_new(event: Event, seen: dict[str, int]) -> bool:
    """Say whether this change is new, and note it; ended jobs are remembered too."""
    version = DELETED if event.job is None else event.job.version
    is_new = version > seen.get(event.job_id, -1)
    if is_new:
        seen[event.job_id] = version
    return is_new


def _news_of(event: ServerSentEvent) -> Event | None:
    """Return the change that an event contains; unknown kinds of events contain none."""
    if event.name not in ("message", "deleted"):
        return None
    try:
        said = json.loads(event.data)
    except ValueError:
        return None
    if not isinstance(said, dict) or not isinstance(said.get("id"), str):
        return None
    return Event(said["id"], None if said.get("deleted") else decode(Job, said))
