"""Batches: create, look, list, cancel, and fetch all their clips as one zip."""

from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from functools import partial
from typing import Annotated, Final
from uuid import UUID

import structlog
from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse

from api.auth.caller import Authenticated, Caller
from api.batches.archive import write_archive
from api.batches.submit import submit_batch
from api.body_limit import takes_batch
from api.dependencies import BaseUrl, Given, Paged, known_query
from api.middleware.request_log import AnswerCut
from api.openapi import BATCH_BODY, PROBLEMS, ZIP
from api.ports import Ports
from api.responses.listing import ListOf
from api.route import Route
from api.submit.idempotency import Idempotency
from shared.errors import BatchNotReady, Gone, Unavailable
from shared.jobs.batch import (
    BATCH_ID,
    Batch,
    BatchView,
    LiveCounts,
    batch_view,
    no_such_batch,
    parse_batch_id,
)
from shared.jobs.batch_queries import WRONG_CURSOR
from shared.jobs.links import ZIP as ZIP_LINK

router = APIRouter(
    route_class=Route,
    prefix="/v1/batches",
    tags=["batches"],
    dependencies=[Depends(known_query)],
    responses=PROBLEMS,
)

POLL_SECONDS: Final = 5

_log = structlog.get_logger(__name__)


class BatchList(ListOf[BatchView]):
    """One page of a listing; the next one starts `after` its `last_id`."""


@router.post("", status_code=202, response_model=BatchView, openapi_extra=BATCH_BODY)
@takes_batch
async def create_batch(
    request: Request, ports: Given, caller: Authenticated, base_url: BaseUrl, key: Idempotency
) -> Response:
    """Queue up to a hundred clips as one: all of them, or none."""
    submitted = await submit_batch(request, ports, caller, key=key)
    look = partial(_view, ports, submitted.batch, base_url)
    shown = await ports.pools.database.run(look, owner_id=caller.owner_id)
    headers = {"Location": f"{base_url}/v1/batches/{shown.id}"}
    if submitted.is_replay:
        headers["Idempotency-Replayed"] = "true"
    return _answer(shown, 202, headers)


@router.get("", response_model=BatchList)
def list_batches(
    ports: Given,
    caller: Authenticated,
    base_url: BaseUrl,
    paging: Paged,
) -> BatchList:
    """List batches, the newest first."""
    page = ports.batches.page(paging.cut(BATCH_ID, wrong=WRONG_CURSOR), owner_id=caller.owner_id)
    views = [
        batch_view(
            batch,
            page.live.get(batch.id, LiveCounts()),
            content_url=_zip_url(ports, batch, base_url),
        )
        for batch in page.items
    ]
    return BatchList.of(views, has_more=page.has_more)


@router.get("/{batch_id}", response_model=BatchView)
def get_batch(batch_id: str, ports: Given, caller: Authenticated, base_url: BaseUrl) -> Response:
    """Show a batch; its jobs are `GET /v1/jobs?batch_id=`."""
    batch = ports.batches.get(parse_batch_id(batch_id), owner_id=caller.owner_id)
    return _answer(_view(ports, batch, base_url))


@router.post("/{batch_id}/cancel", response_model=BatchView)
def cancel_batch(
    batch_id: str, ports: Given, caller: Authenticated, base_url: BaseUrl
) -> Response:
    """End every job of a batch that has not ended; 409 if all had ended by themselves."""
    batch = ports.jobs.cancel_batch(parse_batch_id(batch_id), owner_id=caller.owner_id)
    _log.info("batch_canceled", batch=batch.public_id)
    return _answer(_view(ports, batch, base_url))


@router.get("/{batch_id}/content", response_class=Response, responses=ZIP)
async def batch_content(
    batch_id: str,
    ports: Given,
    caller: Authenticated,
    link: Annotated[
        str | None, Query(max_length=100, description="The signature of a link.")
    ] = None,
) -> StreamingResponse:
    """Fetch every clip of a finished batch as one zip, with results.csv."""
    # The link was read before the request came here: `caller.link` is the file that it opens.

    def start() -> tuple[Batch, bytes, Iterator[bytes]]:
        batch = _opened(ports, caller, parse_batch_id(batch_id))
        pieces = _archive(ports, batch)
        return batch, next(pieces), pieces

    download = partial(ports.pools.downloads.run, owner_id=caller.owner_id)
    batch, first, rest = await download(start)

    async def stream() -> AsyncIterator[bytes]:
        yield first
        try:
            while piece := await download(partial(next, rest, b"")):
                yield piece
        except Unavailable as error:
            raise AnswerCut(error.message) from error

    headers = {
        "Content-Disposition": f'attachment; filename="{batch.public_id}.zip"',
        "Cache-Control": "private, no-store",
    }
    return StreamingResponse(stream(), headers=headers, media_type="application/zip")


def _opened(ports: Ports, caller: Caller, batch_id: UUID) -> Batch:
    """Return the caller's batch, or the batch whose zip a link opens."""
    if caller.link is None:
        return ports.batches.get(batch_id, owner_id=caller.owner_id)
    if (caller.link.id, caller.link.variant) != (batch_id, ZIP_LINK):
        raise no_such_batch()
    return ports.batches.behind(caller.link)


def _archive(ports: Ports, batch: Batch) -> Iterator[bytes]:
    """Yield the zip's pieces, none of them empty.

    Raises:
        BatchNotReady: some of its jobs have not ended.
        Gone: all its files have expired.
    """
    if batch.finished_at is None:
        ended = batch.succeeded + batch.failed + batch.canceled
        raise BatchNotReady(
            f"{batch.total - ended} of the batch's {batch.total} jobs have not ended yet; its"
            " files are ready when all have; cancel the batch to get the finished ones"
        )
    jobs = list(ports.batches.jobs(batch.id, owner_id=batch.owner_id))
    if not any(job.expired_at is None and job.deleted_at is None for _, job in jobs):
        raise Gone("the batch's files have expired")
    return filter(None, write_archive(ports.storage, batch, iter(jobs)))


def _view(ports: Ports, batch: Batch, base_url: str) -> BatchView:
    live = ports.batches.live([batch]).get(batch.id, LiveCounts())
    return batch_view(batch, live, content_url=_zip_url(ports, batch, base_url))


def _zip_url(ports: Ports, batch: Batch, base_url: str) -> str:
    return f"{base_url}{ports.links.zip_path(batch, now=datetime.now(UTC))}"


def _answer(view: BatchView, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    more = {"Cache-Control": "private, no-cache", **(headers or {})}
    if view.status == "in_progress":
        more["Retry-After"] = str(POLL_SECONDS)
    return JSONResponse(view.model_dump(mode="json"), status, headers=more)
