"""Jobs: create, look, list, cancel, delete, and fetch what they made."""

import re
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta
from functools import partial
from typing import Annotated, Final, Literal
from uuid import UUID

import structlog
from fastapi import APIRouter, Body, Depends, Header, Query, Request, Response
from pydantic import TypeAdapter, ValidationError
from starlette.datastructures import Headers
from starlette.types import Scope

from api.auth.caller import Authenticated
from api.body_limit import takes_image
from api.dependencies import (
    DEFAULT_LIMIT,
    MAX_WAIT_SECONDS,
    BaseUrl,
    Given,
    Paged,
    Preferring,
    base_url_of,
    known_query,
)
from api.openapi import CREATE_BODY, FILE, METADATA_QUERY, PROBLEMS
from api.ports import Ports
from api.problems import request_id
from api.responses.file import serve
from api.responses.job import (
    JobList,
    SearchedJobList,
    answer,
    answer_known,
    answer_later,
    known_list,
    view,
)
from api.route import Route
from api.submit.body import refuse_nul
from api.submit.idempotency import Idempotency
from api.submit.retry import RetryJob, retry
from api.submit.submit import submit
from api.validation_messages import explain
from shared.errors import AppError
from shared.jobs.batch import BATCH_ID
from shared.jobs.create import Metadata
from shared.jobs.inputs import Input
from shared.jobs.job import JOB_ID, Job, Variant, parse_id
from shared.jobs.listing import WRONG_CURSOR, Filter
from shared.jobs.storage_keys import FIRST, output_prefix
from shared.jobs.view import JobView
from shared.lifecycle import Status
from shared.storage import Storage

router = APIRouter(
    route_class=Route,
    prefix="/v1/jobs",
    tags=["jobs"],
    dependencies=[Depends(known_query)],
    responses=PROBLEMS,
)

_PAIRS: Final = TypeAdapter(Metadata)

MAX_STEP: Final = 1_000_000
NEWEST: Final = re.compile(r"(?:limit=([1-9][0-9]?|100))?")
"""The query names that only set how many of the newest jobs to list."""

_log = structlog.get_logger(__name__)


@router.post("", status_code=202, response_model=JobView, openapi_extra=CREATE_BODY)
@takes_image
async def create_job(
    request: Request,
    ports: Given,
    caller: Authenticated,
    base_url: BaseUrl,
    key: Idempotency,
    prefer: Preferring,
) -> Response:
    """Queue a clip of the image; 202, or 200 if `Prefer: wait` saw its end."""
    submitted = await submit(request, ports, caller, key=key, source="api")
    job = submitted.job
    if prefer.wait is not None:
        job = await ports.job_watcher.until(job, has_ended, within=prefer.wait)
    shown = await answer_later(ports, job, base_url)
    headers = {"Location": f"{base_url}/v1/jobs/{job.public_id}"}
    if submitted.is_replay:
        headers["Idempotency-Replayed"] = "true"
    if prefer.wait is not None:
        headers["Preference-Applied"] = f"wait={int(prefer.wait.total_seconds())}"
    has_waited = prefer.wait is not None and job.is_terminal
    return shown.response(200 if has_waited else 202, headers)


@router.get("", response_model=JobList | SearchedJobList, openapi_extra=METADATA_QUERY)
def list_jobs(
    request: Request,
    ports: Given,
    caller: Authenticated,
    base_url: BaseUrl,
    paging: Paged,
    status: Status | None = None,
    model: Annotated[str | None, Query(max_length=100)] = None,
    batch_id: Annotated[str | None, Query(max_length=100)] = None,
    q: Annotated[
        str | None,
        Query(
            min_length=1,
            max_length=200,
            description="Words in the prompt or in a value of the metadata, in any letter case.",
        ),
    ] = None,
) -> Response:
    """List jobs, the newest first; `metadata[k]=v` keeps those that have all given pairs.

    `q` and `metadata` search your newest 5,000 jobs, with `status` the newest of that status;
    `is_cut` says whether you have more.
    """
    refuse_nul(model, "model")
    refuse_nul(q, "q")
    narrow = Filter(
        status=status,
        engine=model,
        batch_id=BATCH_ID.parse_query(
            batch_id, "batch_id", wrong="batch_id is not the id of a batch"
        ),
        metadata=_metadata(request),
        query=q,
    )
    page = ports.queries.page(
        owner_id=caller.owner_id,
        narrow=narrow,
        cut=paging.cut(JOB_ID, wrong=WRONG_CURSOR),
    )
    views = [view(ports, job, base_url) for job in page.items]
    found = JobList.of(views, has_more=page.has_more)
    if narrow.is_search:
        found = SearchedJobList(**found.__dict__, is_cut=page.is_cut)
    # FastAPI would check every value of every job again.
    return Response(found.model_dump_json(), media_type="application/json")


@router.get("/{job_id}", response_model=JobView)
async def get_job(
    job_id: str,
    ports: Given,
    caller: Authenticated,
    base_url: BaseUrl,
    wait: Annotated[
        int,
        Query(
            ge=0,
            le=MAX_WAIT_SECONDS,
            description="Seconds to wait for the end, or with If-None-Match for any change.",
        ),
    ] = 0,
    if_none_match: Annotated[str | None, Header()] = None,
) -> Response:
    """Show a job; 304 where the client has seen this version."""
    known = await ports.known_jobs.get(parse_id(job_id), owner_id=caller.owner_id)
    job, shown = known.job, await answer_known(ports, known, base_url)
    is_known = shown.is_known_by(if_none_match)
    if wait and not job.is_terminal and (is_known or if_none_match is None):
        seen = job.version if is_known else None
        is_news = partial(_is_news, seen)
        job = await ports.job_watcher.until(job, is_news, within=timedelta(seconds=wait))
        shown = await answer_later(ports, job, base_url)
    return shown.not_modified() if shown.is_known_by(if_none_match) else shown.response()


async def list_newest(scope: Scope, _last: str, query: str) -> Response:
    """Answer like `list_jobs` for a request that asks for the newest jobs without a filter."""
    ports: Ports = scope["app"].state.ports
    match = NEWEST.fullmatch(query)
    assert match is not None
    limit = int(match[1] or DEFAULT_LIMIT)
    owner_id = scope["state"]["caller"].owner_id
    jobs = await ports.known_jobs.newest(owner_id, limit + 1)
    base_url = base_url_of(scope, ports.settings)
    body = known_list(ports, jobs[:limit], base_url, has_more=len(jobs) > limit)
    return Response(body, media_type="application/json")


async def poll(scope: Scope, job_id: str, _query: str) -> Response:
    """Answer like `get_job` for a request without a query."""
    ports: Ports = scope["app"].state.ports
    owner_id = scope["state"]["caller"].owner_id
    known = await ports.known_jobs.get(parse_id(job_id), owner_id=owner_id)
    shown = await answer_known(ports, known, base_url_of(scope, ports.settings))
    is_known = shown.is_known_by(Headers(scope=scope).get("if-none-match"))
    return shown.not_modified() if is_known else shown.response()


@router.post("/{job_id}/cancel", response_model=JobView)
def cancel_job(job_id: str, ports: Given, caller: Authenticated, base_url: BaseUrl) -> Response:
    """End a live job for good; a canceled one stays as it is, 409 for other ended ones."""
    job = ports.jobs.cancel(parse_id(job_id), owner_id=caller.owner_id)
    _log.info("job_canceled", job=job.public_id, attempt=job.attempt)
    return answer(ports, job, base_url).response()


@router.post("/{job_id}/retry", status_code=202, response_model=JobView)
async def retry_job(
    request: Request,
    job_id: str,
    ports: Given,
    caller: Authenticated,
    base_url: BaseUrl,
    key: Idempotency,
    changes: Annotated[RetryJob | None, Body()] = None,
) -> Response:
    """Queue a new job like this one, with its seed and its own copies of the images."""
    submitted = await retry(
        ports,
        caller,
        parse_id(job_id),
        changes or RetryJob(),
        key=key,
        request_id=request_id(request.scope),
    )
    look = partial(answer, ports, submitted.job, base_url)
    shown = await ports.pools.database.run(look, owner_id=caller.owner_id)
    headers = {"Location": f"{base_url}/v1/jobs/{submitted.job.public_id}"}
    if submitted.is_replay:
        headers["Idempotency-Replayed"] = "true"
    return shown.response(202, headers)


@router.delete("/{job_id}", status_code=204, response_class=Response)
async def delete_job(job_id: str, ports: Given, caller: Authenticated) -> None:
    """Cancel the job if it has not ended, and remove it and its files.

    It answers 404 from now on.
    """
    buried = parse_id(job_id)

    def bury() -> tuple[Job, Sequence[Input]]:
        job = ports.jobs.delete(buried, owner_id=caller.owner_id)
        # The job is deleted; the keeper removes the files that are not removed here.
        with suppress(AppError):
            return job, ports.queries.inputs(job)
        return job, ()

    job, inputs = await ports.pools.database.run(bury, owner_id=caller.owner_id)
    _log.info("job_deleted", job=job.public_id, attempt=job.attempt)
    remove = partial(_remove_files, ports.storage, job.id, inputs)
    await ports.pools.storing.run(remove, owner_id=caller.owner_id)


@router.head("/{job_id}/content", include_in_schema=False)
@router.get("/{job_id}/content", response_class=Response, responses=FILE)
async def content(
    request: Request,
    job_id: str,
    ports: Given,
    caller: Authenticated,
    variant: Variant = Variant.VIDEO,
    name: Annotated[
        str, Query(max_length=100, description="Which input, where variant is input.")
    ] = FIRST,
    link: Annotated[
        str | None, Query(max_length=100, description="The signature of a link.")
    ] = None,
    step: Annotated[
        int | None,
        Query(
            ge=0,
            le=MAX_STEP,
            description="Gives each preview an address of its own; the newest is the answer.",
        ),
    ] = None,
    via: Annotated[
        Literal["gateway"] | None,
        Query(description="Here, also where the storage has an address of its own."),
    ] = None,
) -> Response:
    """Fetch a file of the job, whole or by Range, here or from the storage's own address."""
    # The link was read before the request came here: `caller.link` is the file that it opens.
    is_here = via is not None
    return await serve(request, ports, caller, job_id, variant, name=name, is_here=is_here)


def has_ended(job: Job) -> bool:
    return job.is_terminal


def _is_news(seen: int | None, job: Job) -> bool:
    return job.is_terminal or (seen is not None and job.version != seen)


def _remove_files(storage: Storage, job_id: UUID, inputs: Sequence[Input]) -> None:
    """Remove the files stored now; the keeper removes those that fail here or arrive late."""
    with suppress(AppError):
        for given in inputs:
            storage.delete(given.key)
        storage.delete_prefix(output_prefix(job_id))


def _metadata(request: Request) -> dict[str, str]:
    pairs = {
        name.removeprefix("metadata[").removesuffix("]"): value
        for name, value in request.query_params.items()
        if name.startswith("metadata[")
    }
    refuse_nul([*pairs, *pairs.values()], "metadata")
    try:
        return _PAIRS.validate_python(pairs)
    except ValidationError as error:
        found = error.errors(include_url=False)
        raise explain([each | {"loc": ("metadata", *each["loc"])} for each in found]) from error
