"""The one-call client: POST a form, wait, get the path of an MP4."""

from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Final

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from api.auth.caller import Authenticated
from api.body_limit import takes_image
from api.dependencies import BaseUrl, Given, Preferring
from api.openapi import FILE, GENERATE_BODY, PROBLEMS
from api.ports import Ports
from api.problems import problem_response
from api.responses.file import serve
from api.responses.job import answer
from api.route import Route
from api.routes.jobs import has_ended
from api.submit.body import refuse_query_fields
from api.submit.idempotency import Idempotency
from api.submit.submit import submit
from shared.errors import JobTerminal, NotFound, RenderFailed, StillRendering, Unavailable
from shared.jobs.job import Job, Variant
from shared.lifecycle import Status

router = APIRouter(route_class=Route, tags=["legacy"], responses=PROBLEMS)

FOLDER: Final = "outputs/"
SUFFIX: Final = ".mp4"
# Deprecated since 22 November 2026, in seconds as RFC 9745 has it.
SUCCESSOR: Final = {"Deprecation": "@1795305600", "Link": '</v1/jobs>; rel="successor-version"'}


class Generated(BaseModel):
    """A finished clip; `output_path` is served at the same path by this gateway."""

    output_path: str
    job_id: str
    status: str
    video_url: str
    seed: int
    width: int
    height: int
    num_frames: int
    fps: int


@router.post("/generate", response_model=Generated, openapi_extra=GENERATE_BODY, deprecated=True)
@takes_image
async def generate(
    request: Request,
    ports: Given,
    caller: Authenticated,
    base_url: BaseUrl,
    key: Idempotency,
    prefer: Preferring,
) -> Response:
    """Render a clip and answer when it is finished; a client that disconnects cancels nothing."""
    refuse_query_fields(request)
    submitted = await submit(request, ports, caller, key=key, source="legacy", takes_urls=False)
    job = submitted.job
    if prefer.respond_async:
        look = partial(answer, ports, job, base_url)
        shown = await ports.pools.database.run(look, owner_id=caller.owner_id)
        location = f"{base_url}/v1/jobs/{job.public_id}"
        return shown.response(202, SUCCESSOR | {"Location": location})
    within = timedelta(seconds=ports.settings.generate_timeout_seconds)
    job = await ports.job_watcher.until(job, has_ended, within=within)
    response = _ended(request, ports, job, base_url)
    response.headers.update(SUCCESSOR)
    return response


@router.head("/outputs/{file_name}", include_in_schema=False)
@router.get("/outputs/{file_name}", response_class=Response, responses=FILE)
async def output(
    request: Request, file_name: str, ports: Given, caller: Authenticated
) -> Response:
    """Serve the file of an `output_path`."""
    if not file_name.endswith(SUFFIX):
        raise NotFound(f"no such file; a clip is called like its job, with {SUFFIX} at the end")
    job_id = file_name.removesuffix(SUFFIX)
    return await serve(request, ports, caller, job_id, Variant.VIDEO)


def _ended(request: Request, ports: Ports, job: Job, base_url: str) -> JSONResponse:
    if job.status is Status.SUCCEEDED:
        return JSONResponse(_generated(ports, job, base_url).model_dump())
    refuse = partial(problem_response, scope=request.scope, members={"job_id": job.public_id})
    if job.status is Status.FAILED:
        failed = RenderFailed(job.error_message or "the render failed")
        return refuse(failed, code=job.error_code)
    if job.status is Status.CANCELED:
        return refuse(JobTerminal("the job was canceled while this request waited for it"))
    if ports.job_watcher.is_stopping:
        return refuse(Unavailable("the gateway is stopping; the job goes on"))
    limit = ports.settings.generate_timeout_seconds
    return refuse(StillRendering(f"the clip was not finished within {limit:g} s; the job goes on"))


def _generated(ports: Ports, job: Job, base_url: str) -> Generated:
    assert job.result is not None, "the table holds a result for every succeeded job"
    video = job.result.artifacts[Variant.VIDEO]
    parameters = job.parameters
    return Generated(
        output_path=f"{FOLDER}{job.public_id}{SUFFIX}",
        job_id=job.public_id,
        status=job.status,
        video_url=f"{base_url}{ports.links.path(job, Variant.VIDEO, now=datetime.now(UTC))}",
        seed=parameters.seed,
        width=video.width or parameters.width,
        height=video.height or parameters.height,
        num_frames=video.num_frames or parameters.num_frames,
        fps=video.fps or parameters.fps,
    )
