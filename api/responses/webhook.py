"""Webhook endpoints and deliveries as clients see them; endpoints in OpenAI's shapes."""

from datetime import datetime
from typing import Final, Literal

from pydantic import BaseModel

from api.responses.listing import ListOf
from shared.jobs.batch import BATCH_ID
from shared.jobs.job import public_id
from shared.webhooks.delivery_log import Attempt, DeliveryRecord, DeliveryStatus
from shared.webhooks.endpoints import DEFAULT, ENDPOINT_ID, Endpoint
from shared.webhooks.signing import webhook_id

HINT_CHARACTERS: Final = 4


class EndpointView(BaseModel):
    """An endpoint, with times in Unix seconds.

    `status` and the fields after it are ours, not OpenAI's.
    """

    id: str
    object: Literal["webhook_endpoint"] = "webhook_endpoint"
    created_at: int
    updated_at: int
    name: str
    url: str
    event_types: tuple[str, ...]
    signing_secret_hint: str
    status: Literal["enabled", "disabled"]
    disabled_at: int | None
    disabled_reason: str | None
    failing_since: int | None


class EndpointWithSecret(EndpointView):
    """An endpoint with its secret, which no later answer shows."""

    signing_secret: str


class EndpointList(ListOf[EndpointView]):
    """One page of the endpoints."""


class DeletedEndpoint(BaseModel):
    id: str
    object: Literal["webhook_endpoint.deleted"] = "webhook_endpoint.deleted"
    deleted: Literal[True] = True


class EventTypeList(BaseModel):
    object: Literal["list"] = "list"
    data: tuple[str, ...]


class TestResult(BaseModel):
    """The endpoint's answer to a test; `success` says that it answered, not what."""

    object: Literal["webhook_endpoint.test"] = "webhook_endpoint.test"
    webhook_endpoint_id: str
    event_type: str
    status_code: int
    success: Literal[True] = True
    delivery_id: str


class SecretView(BaseModel):
    """The secret that signs the webhooks of an owner's one-off URLs."""

    object: Literal["webhook_secret"] = "webhook_secret"
    key: str
    updated_at: int
    previous_key_signs_until: int | None


class DeliveryView(BaseModel):
    """A delivery with every try; `id` is the `webhook-id` that its receiver sees."""

    id: str
    object: Literal["webhook_delivery"] = "webhook_delivery"
    webhook_endpoint_id: str
    job_id: str | None
    batch_id: str | None
    event_type: str
    url: str
    status: DeliveryStatus
    created_at: datetime
    next_at: datetime | None
    delivered_at: datetime | None
    dead_reason: str | None
    attempts: tuple[Attempt, ...]


class DeliveryList(ListOf[DeliveryView]):
    """One page of an endpoint's deliveries."""


class ReplayView(BaseModel):
    object: Literal["webhook_endpoint.replay"] = "webhook_endpoint.replay"
    webhook_endpoint_id: str
    replayed: int


def endpoint_view(endpoint: Endpoint) -> EndpointView:
    return EndpointView(
        id=endpoint.public_id,
        created_at=int(endpoint.created_at.timestamp()),
        updated_at=int(endpoint.updated_at.timestamp()),
        name=endpoint.name,
        url=endpoint.url or "",
        event_types=endpoint.event_types,
        signing_secret_hint=f"whsec_…{endpoint.secret[-HINT_CHARACTERS:]}",
        status="enabled" if endpoint.disabled_at is None else "disabled",
        disabled_at=_seconds(endpoint.disabled_at),
        disabled_reason=endpoint.disabled_reason,
        failing_since=_seconds(endpoint.failing_since),
    )


def with_secret(endpoint: Endpoint) -> EndpointWithSecret:
    return EndpointWithSecret(
        **endpoint_view(endpoint).model_dump(), signing_secret=endpoint.secret
    )


def secret_view(endpoint: Endpoint) -> SecretView:
    return SecretView(
        key=endpoint.secret,
        updated_at=int(endpoint.updated_at.timestamp()),
        previous_key_signs_until=_seconds(endpoint.previous_secret_until),
    )


def delivery_view(sent: DeliveryRecord) -> DeliveryView:
    return DeliveryView(
        id=webhook_id(sent.id),
        webhook_endpoint_id=DEFAULT if sent.is_one_off else ENDPOINT_ID.show(sent.endpoint_id),
        job_id=None if sent.job_id is None else public_id(sent.job_id),
        batch_id=None if sent.batch_id is None else BATCH_ID.show(sent.batch_id),
        event_type=sent.event,
        url=sent.url,
        status=sent.status,
        created_at=sent.created_at,
        next_at=sent.next_at,
        delivered_at=sent.delivered_at,
        dead_reason=sent.dead_reason,
        attempts=sent.attempts,
    )


def _seconds(at: datetime | None) -> int | None:
    return None if at is None else int(at.timestamp())
