"""Webhook deliveries: what was sent, the answers, and sending again."""

from typing import Annotated, Literal

import structlog
from fastapi import APIRouter, Depends, Query
from pydantic import AwareDatetime

from api.auth.caller import Authenticated
from api.dependencies import Given, Paged, known_query
from api.openapi import PROBLEMS
from api.responses.webhook import DeliveryList, DeliveryView, ReplayView, delivery_view
from api.route import Route
from api.submit.json_body import KnownNames
from shared.jobs.job import JOB_ID
from shared.webhooks.delivery_log import DeliveryStatus, Window, parse_delivery_id
from shared.webhooks.endpoints import WRONG_CURSOR
from shared.webhooks.signing import DELIVERY_ID

router = APIRouter(
    route_class=Route,
    prefix="/v1",
    tags=["webhooks"],
    dependencies=[Depends(known_query)],
    responses=PROBLEMS,
)

_log = structlog.get_logger(__name__)


class ReplayRange(KnownNames):
    """Which deliveries to send again: by default the dead ones made since then."""

    since: AwareDatetime
    until: AwareDatetime | None = None
    status: Literal["dead", "delivered"] = "dead"


@router.get("/webhook_endpoints/{endpoint_id}/deliveries")
def list_deliveries(
    endpoint_id: str,
    ports: Given,
    caller: Authenticated,
    paging: Paged,
    status: DeliveryStatus | None = None,
    job_id: Annotated[str | None, Query(max_length=100)] = None,
) -> DeliveryList:
    """List an endpoint's deliveries, or with `default` those of jobs' own URLs, newest first."""
    page = ports.delivery_log.page(
        ports.endpoints.named(endpoint_id, owner_id=caller.owner_id),
        paging.cut(DELIVERY_ID, wrong=WRONG_CURSOR),
        owner_id=caller.owner_id,
        status=status,
        job_id=JOB_ID.parse_query(job_id, "job_id", wrong="job_id is not the id of a job"),
    )
    views = [delivery_view(sent) for sent in page.items]
    return DeliveryList.of(views, has_more=page.has_more)


@router.post("/webhook_endpoints/{endpoint_id}/replay")
def replay_range(
    endpoint_id: str, asked: ReplayRange, ports: Given, caller: Authenticated
) -> ReplayView:
    """Send again what ended between `since` and `until`; `default` stands for jobs' own URLs."""
    endpoint = ports.endpoints.named(endpoint_id, owner_id=caller.owner_id)
    window = Window(since=asked.since, until=asked.until, status=DeliveryStatus(asked.status))
    replayed = ports.delivery_log.replay_range(endpoint, window, owner_id=caller.owner_id)
    _log.info("webhooks_replayed", endpoint=endpoint.public_id, count=replayed)
    return ReplayView(webhook_endpoint_id=endpoint.public_id, replayed=replayed)


@router.get("/webhook_deliveries/{delivery_id}")
def get_delivery(delivery_id: str, ports: Given, caller: Authenticated) -> DeliveryView:
    """Show a delivery with every try."""
    found = parse_delivery_id(delivery_id)
    return delivery_view(ports.delivery_log.get(found, owner_id=caller.owner_id))


@router.post("/webhook_deliveries/{delivery_id}/replay")
def replay_delivery(delivery_id: str, ports: Given, caller: Authenticated) -> DeliveryView:
    """Send a delivery again under its own id, however it ended."""
    found = parse_delivery_id(delivery_id)
    replayed = ports.delivery_log.replay(found, owner_id=caller.owner_id)
    _log.info("webhook_replayed", delivery=delivery_id)
    return delivery_view(replayed)
