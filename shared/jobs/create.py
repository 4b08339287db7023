"""The fields of a create request."""

from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, HttpUrl, StringConstraints

from shared.engines.parameters import RequestedParameters
from shared.jobs.job import Priority
from shared.webhooks.events import TERMINAL_EVENTS, EventType

MAX_METADATA_KEYS: Final = 50

MetadataKey = Annotated[str, StringConstraints(min_length=1, max_length=40)]
MetadataValue = Annotated[str, StringConstraints(max_length=500)]


class Webhook(BaseModel):
    """Where a job's events go; by default its end only."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: HttpUrl
    event_types: tuple[EventType, ...] = TERMINAL_EVENTS


class CreateJob(RequestedParameters):
    """Everything a client may say about a job besides its picture."""

    model: str | None = None
    priority: Priority = Priority.NORMAL
    outputs: tuple[Literal["poster", "gif", "spritesheet"], ...] = ()
    queue_ttl_seconds: int | None = Field(default=None, ge=1, le=7 * 24 * 3600)
    retain_seconds: int | None = Field(default=None, ge=60)
    webhook: Webhook | None = None
    metadata: dict[MetadataKey, MetadataValue] = Field(
        default_factory=dict, max_length=MAX_METADATA_KEYS
    )
