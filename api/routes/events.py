"""Listening: a stream of one job's snapshots, and one of all the caller's jobs."""

from functools import partial
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Header, Request
from fastapi.responses import StreamingResponse

from api.auth.caller import Authenticated
from api.dependencies import BaseUrl, Given, known_query
from api.openapi import PROBLEMS
from api.responses.event_stream import EventStream
from api.responses.following import (
    Listener,
    follow_job,
    follow_owner,
    read_stream_id,
    read_version,
)
from api.route import Route
from shared.jobs.job import parse_id

_EVENT: Final = {
    "type": "object",
    "description": "One event of the stream.",
    "properties": {
        "event": {"type": "string"},
        "id": {"type": "string"},
        "data": {"type": "string", "contentMediaType": "application/json"},
    },
}

STREAM: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "description": "Server-sent events: `data` is the job as GET shows it.",
        "content": {"text/event-stream": {"schema": _EVENT}},
    }
}

router = APIRouter(
    prefix="/v1",
    tags=["events"],
    route_class=Route,
    dependencies=[Depends(known_query)],
    responses=PROBLEMS,
)

LastEventId = Annotated[
    str | None,
    Header(description="The id of the last event received: the stream goes on from there."),
]


@router.get("/jobs/{job_id}/events", response_class=StreamingResponse, responses=STREAM)
async def job_events(
    request: Request,
    job_id: str,
    ports: Given,
    caller: Authenticated,
    base_url: BaseUrl,
    last_event_id: LastEventId = None,
) -> EventStream:
    """Follow one job: its newest snapshot at each change, and `end` after the last one.

    The id of an event is the job's version. A comment comes every 15 seconds of silence.
    """
    seen = read_version(last_event_id) if last_event_id else None
    look = partial(ports.queries.get, parse_id(job_id), owner_id=caller.owner_id)
    job = await ports.pools.database.run(look, owner_id=caller.owner_id)
    listener = Listener(ports, caller, request.scope, base_url)
    return EventStream(follow_job(listener, job, seen), ports.stream_slots.hold(caller.name))


@router.get("/events", response_class=StreamingResponse, responses=STREAM)
async def events(
    request: Request,
    ports: Given,
    caller: Authenticated,
    base_url: BaseUrl,
    last_event_id: LastEventId = None,
) -> EventStream:
    """Follow all your jobs: each as it is now, and then its newest snapshot at each change.

    With Last-Event-ID it begins with every job that has not ended and every one that ended or was
    deleted since. Some events come twice: drop repeats by `id` and `version`. An event `deleted`
    has `{id, object, deleted, version}`. No end is ever missed; progress may be missed.
    """
    seen = read_stream_id(last_event_id) if last_event_id else None
    read = ports.news.complete_until
    now = await ports.pools.database.run(read, owner_id=caller.owner_id)
    listener = Listener(ports, caller, request.scope, base_url)
    return EventStream(follow_owner(listener, seen, now), ports.stream_slots.hold(caller.name))
