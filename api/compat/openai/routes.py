"""OpenAI Videos over our jobs: create, look, list, remix, cancel, delete, download."""

from enum import StrEnum
from functools import partial
from typing import Annotated, Final

import structlog
from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from api.auth.caller import Authenticated, Caller
from api.body_limit import takes_image
from api.compat.create import submit_foreign
from api.compat.openai.create import VIDEO_BODY, read_video
from api.compat.openai.video import DeletedVideo, Video, VideoList, video
from api.dependencies import Given, Paged
from api.openapi import FILE, PROBLEMS
from api.ports import Ports
from api.problems import request_id
from api.responses.file import serve
from api.responses.job import poll_headers
from api.route import Route
from api.routes.jobs import delete_job
from api.submit.body import refuse_nul
from api.submit.idempotency import Idempotency
from api.submit.queue_job import Submitted
from api.submit.retry import RetryJob, retry
from shared.jobs.job import JOB_ID, Job, Variant, parse_id
from shared.jobs.listing import WRONG_CURSOR, Filter
from shared.lifecycle import LIVE

router = APIRouter(route_class=Route, prefix="/v1/videos", tags=["videos"], responses=PROBLEMS)

SOURCE: Final = "openai"

_log = structlog.get_logger(__name__)


class Part(StrEnum):
    """OpenAI's names for the files of a video."""

    VIDEO = "video"
    THUMBNAIL = "thumbnail"
    SPRITESHEET = "spritesheet"


class Remix(BaseModel):
    """Another prompt for the image of an earlier video; other names are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    prompt: Annotated[str, Field(max_length=2000)]


VARIANTS: Final = {
    Part.VIDEO: Variant.VIDEO,
    Part.THUMBNAIL: Variant.POSTER,
    Part.SPRITESHEET: Variant.SPRITESHEET,
}


@router.post("", response_model=Video, openapi_extra=VIDEO_BODY)
@takes_image
async def create_video(
    request: Request, ports: Given, caller: Authenticated, key: Idempotency
) -> Response:
    """Queue a clip of the reference; `warnings` names unknown fields."""
    submitted = await submit_foreign(request, ports, caller, read_video, key=key, source=SOURCE)
    return await _submitted(ports, caller, submitted)


@router.get("", response_model=VideoList)
def list_videos(
    ports: Given,
    caller: Authenticated,
    paging: Paged,
) -> VideoList:
    """List jobs as videos, the newest first, also jobs of other protocols."""
    page = ports.queries.page(
        owner_id=caller.owner_id,
        narrow=Filter(),
        cut=paging.cut(JOB_ID, wrong=WRONG_CURSOR),
    )
    return VideoList.of([video(job) for job in page.items], has_more=page.has_more)


@router.get("/{video_id}", response_model=Video)
def get_video(video_id: str, ports: Given, caller: Authenticated) -> Response:
    """Show a job as a video; a failed job is a 200 with its error."""
    return _answer(ports, ports.queries.get(parse_id(video_id), owner_id=caller.owner_id))


@router.post("/{video_id}/cancel", response_model=Video)
def cancel_video(video_id: str, ports: Given, caller: Authenticated) -> Response:
    """End a live job for good; it is then a failed video, whose error is `canceled`."""
    job = ports.jobs.cancel(parse_id(video_id), owner_id=caller.owner_id)
    _log.info("job_canceled", job=job.public_id, attempt=job.attempt)
    return _answer(ports, job)


@router.post("/{video_id}/remix", response_model=Video)
async def remix_video(
    request: Request,
    video_id: str,
    change: Remix,
    ports: Given,
    caller: Authenticated,
    key: Idempotency,
) -> Response:
    """Queue another clip of the same image, with another prompt and a new seed."""
    refuse_nul(change.prompt, "prompt")
    changes = RetryJob(prompt=change.prompt, seed=None)  # With this value a new seed is drawn.
    submitted = await retry(
        ports, caller, parse_id(video_id), changes, key=key, request_id=request_id(request.scope)
    )
    return await _submitted(ports, caller, submitted)


@router.delete("/{video_id}")
async def delete_video(video_id: str, ports: Given, caller: Authenticated) -> DeletedVideo:
    """Cancel the job if it has not ended, and remove it and its files."""
    await delete_job(video_id, ports, caller)
    return DeletedVideo(id=video_id)


@router.head("/{video_id}/content", include_in_schema=False)
@router.get("/{video_id}/content", response_class=Response, responses=FILE)
async def download_content(
    request: Request,
    video_id: str,
    ports: Given,
    caller: Authenticated,
    variant: Part = Part.VIDEO,
) -> Response:
    """Fetch the clip, its thumbnail, or its sprite sheet."""
    return await serve(request, ports, caller, video_id, VARIANTS[variant])


async def _submitted(ports: Ports, caller: Caller, submitted: Submitted) -> Response:
    look = partial(_answer, ports, submitted.job)
    response = await ports.pools.database.run(look, owner_id=caller.owner_id)
    if submitted.is_replay:
        response.headers["Idempotency-Replayed"] = "true"
    return response


def _answer(ports: Ports, job: Job) -> Response:
    """Return a job as a video, and when to ask again."""
    place = ports.queues.get().place(job) if job.status in LIVE else None
    headers = {"Cache-Control": "private, no-cache", **poll_headers(job, place)}
    return Response(video(job).model_dump_json(), headers=headers, media_type="application/json")
