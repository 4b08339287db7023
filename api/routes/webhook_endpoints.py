"""Webhook endpoints, in OpenAI's shapes: register, change, rotate, test."""

import asyncio
import time
from datetime import timedelta
from functools import partial
from typing import Annotated, Final, Literal, get_args
from uuid import UUID

import structlog
from fastapi import APIRouter, Body, Depends, Response
from pydantic import Field, StringConstraints

from api.auth.caller import Authenticated, Caller
from api.dependencies import Given, Paged, known_query
from api.openapi import PROBLEMS
from api.ports import Ports
from api.responses.webhook import (
    DeletedEndpoint,
    EndpointList,
    EndpointView,
    EndpointWithSecret,
    EventTypeList,
    SecretView,
    TestResult,
    endpoint_view,
    secret_view,
    with_secret,
)
from api.route import Route
from api.submit.body import refuse_nul
from api.submit.json_body import KnownNames
from api.submit.remote_urls import check_webhook
from shared.errors import Unavailable
from shared.numbers import Truth
from shared.outbound.errors import OutboundFailed
from shared.webhooks.delivery_log import Attempt
from shared.webhooks.endpoints import ENDPOINT_ID, WRONG_CURSOR, Change, parse_endpoint_id
from shared.webhooks.events import EndpointEvent
from shared.webhooks.signing import webhook_id

router = APIRouter(
    route_class=Route,
    prefix="/v1",
    tags=["webhooks"],
    dependencies=[Depends(known_query)],
    responses=PROBLEMS,
)

TEST_PATIENCE: Final = timedelta(seconds=20)
"""The keeper finds a delivery within a second and gives a receiver fifteen."""

LOOK_EVERY_SECONDS: Final = 0.1

Name = Annotated[str, StringConstraints(min_length=1, max_length=200)]
Url = Annotated[str, StringConstraints(min_length=1, max_length=2000)]
Events = Annotated[tuple[EndpointEvent, ...], Field(min_length=1, max_length=20)]

_log = structlog.get_logger(__name__)


class NewEndpoint(KnownNames):
    name: Name
    url: Url
    event_types: Events


class EndpointChange(KnownNames):
    """What to change; `enabled: true` also forgets why the endpoint was disabled."""

    name: Name | None = None
    url: Url | None = None
    event_types: Events | None = None
    enabled: Truth | None = None


class Rotation(KnownNames):
    keep_old_secret_active_for_24_hours: Truth = False


class TestSend(KnownNames):
    event_type: EndpointEvent | Literal["webhook.test"] = "webhook.test"


@router.get("/webhook_event_types")
async def list_event_types(caller: Authenticated) -> EventTypeList:
    """List the events that an endpoint may be registered for."""
    return EventTypeList(data=get_args(EndpointEvent))


@router.post("/webhook_endpoints")
async def register_endpoint(
    new: NewEndpoint, ports: Given, caller: Authenticated
) -> EndpointWithSecret:
    """Register a receiver; only the answer shows its signing secret."""
    refuse_nul(new.name, "name")
    await check_webhook(ports, new.url, param="url", owner_id=caller.owner_id)
    register = partial(
        ports.endpoints.register,
        owner_id=caller.owner_id,
        name=new.name,
        url=new.url,
        event_types=tuple(dict.fromkeys(new.event_types)),
    )
    endpoint = await ports.pools.database.run(register, owner_id=caller.owner_id)
    _log.info("webhook_endpoint_registered", endpoint=endpoint.public_id)
    return with_secret(endpoint)


@router.get("/webhook_endpoints")
def list_endpoints(
    ports: Given,
    caller: Authenticated,
    paging: Paged,
) -> EndpointList:
    """List the endpoints, the newest first."""
    page = ports.endpoints.page(
        paging.cut(ENDPOINT_ID, wrong=WRONG_CURSOR), owner_id=caller.owner_id
    )
    views = [endpoint_view(endpoint) for endpoint in page.items]
    return EndpointList.of(views, has_more=page.has_more)


@router.get("/webhook_endpoints/{endpoint_id}")
def get_endpoint(endpoint_id: str, ports: Given, caller: Authenticated) -> EndpointView:
    """Show an endpoint, and why it is disabled, if it is."""
    found = ports.endpoints.get(parse_endpoint_id(endpoint_id), owner_id=caller.owner_id)
    return endpoint_view(found)


@router.patch("/webhook_endpoints/{endpoint_id}")
@router.post("/webhook_endpoints/{endpoint_id}")
async def update_endpoint(
    endpoint_id: str, asked: EndpointChange, ports: Given, caller: Authenticated
) -> EndpointView:
    """Change the fields in the body; PATCH and POST do the same."""
    refuse_nul(asked.name, "name")
    if asked.url is not None:
        await check_webhook(ports, asked.url, param="url", owner_id=caller.owner_id)
    change = Change(
        name=asked.name,
        url=asked.url,
        event_types=asked.event_types and tuple(dict.fromkeys(asked.event_types)),
        enabled=asked.enabled,
    )

    def update() -> EndpointView:
        found = parse_endpoint_id(endpoint_id)
        return endpoint_view(ports.endpoints.update(found, change, owner_id=caller.owner_id))

    return await ports.pools.database.run(update, owner_id=caller.owner_id)


@router.delete("/webhook_endpoints/{endpoint_id}")
def delete_endpoint(endpoint_id: str, ports: Given, caller: Authenticated) -> DeletedEndpoint:
    """Remove an endpoint; its waiting deliveries are not sent, and it answers 404."""
    ports.endpoints.delete(parse_endpoint_id(endpoint_id), owner_id=caller.owner_id)
    _log.info("webhook_endpoint_deleted", endpoint=endpoint_id)
    return DeletedEndpoint(id=endpoint_id)


@router.post("/webhook_endpoints/{endpoint_id}/rotate_secret")
def rotate_secret(
    endpoint_id: str,
    ports: Given,
    caller: Authenticated,
    asked: Annotated[Rotation | None, Body()] = None,
) -> EndpointWithSecret:
    """Draw a new signing secret; only the answer shows it."""
    keep_old = (asked or Rotation()).keep_old_secret_active_for_24_hours
    found = parse_endpoint_id(endpoint_id)
    rotated = ports.endpoints.rotate(found, owner_id=caller.owner_id, keep_old=keep_old)
    _log.info("webhook_secret_rotated", endpoint=endpoint_id, keep_old=keep_old)
    return with_secret(rotated)


@router.post("/webhook_endpoints/{endpoint_id}/test")
async def send_test(
    endpoint_id: str,
    ports: Given,
    caller: Authenticated,
    asked: Annotated[TestSend | None, Body()] = None,
) -> TestResult:
    """Send a sample event once, in the same way as real events, and show the answer."""
    event = (asked or TestSend()).event_type

    def add() -> UUID:
        endpoint = ports.endpoints.get(parse_endpoint_id(endpoint_id), owner_id=caller.owner_id)
        return ports.delivery_log.add_test(endpoint, event, owner_id=caller.owner_id)

    delivery_id = await ports.pools.database.run(add, owner_id=caller.owner_id)
    attempt = await _tried(ports, caller, delivery_id)
    if attempt.status_code is None:
        raise OutboundFailed(f"the endpoint gave no answer: {attempt.error}", param="url")
    return TestResult(
        webhook_endpoint_id=endpoint_id,
        event_type=event,
        status_code=attempt.status_code,
        delivery_id=webhook_id(delivery_id),
    )


@router.get("/webhook_secret")
def show_secret(ports: Given, caller: Authenticated, response: Response) -> SecretView:
    """Show the secret that signs the webhooks of jobs' own URLs."""
    response.headers["Cache-Control"] = "no-store"
    return secret_view(ports.endpoints.default(caller.owner_id))


@router.post("/webhook_secret/rotate")
def rotate_default_secret(
    ports: Given,
    caller: Authenticated,
    response: Response,
    asked: Annotated[Rotation | None, Body()] = None,
) -> SecretView:
    """Draw a new secret for the webhooks of jobs' own URLs."""
    keep_old = (asked or Rotation()).keep_old_secret_active_for_24_hours
    endpoint = ports.endpoints.default(caller.owner_id)
    rotated = ports.endpoints.rotate(endpoint.id, owner_id=caller.owner_id, keep_old=keep_old)
    _log.info("webhook_secret_rotated", endpoint=endpoint.public_id, keep_old=keep_old)
    response.headers["Cache-Control"] = "no-store"
    return secret_view(rotated)


async def _tried(ports: Ports, caller: Caller, delivery_id: UUID) -> Attempt:
    """Return the one try of a test, as soon as the keeper has recorded it."""
    look = partial(ports.delivery_log.get, delivery_id, owner_id=caller.owner_id)
    ends_at = time.monotonic() + TEST_PATIENCE.total_seconds()
    while time.monotonic() < ends_at:
        sent = await ports.pools.database.run(look, owner_id=caller.owner_id)
        if sent.attempts:
            return sent.attempts[0]
        await asyncio.sleep(LOOK_EVERY_SECONDS)
    raise Unavailable(
        f"nothing was sent within {TEST_PATIENCE.total_seconds():g} s: is the keeper running?"
    )
