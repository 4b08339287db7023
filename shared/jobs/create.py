"""The fields of a create request."""

from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, HttpUrl, StringConstraints

from shared.engines.parameters import RequestedParameters
from shared.jobs.job import Priority
from shared.numbers import Whole
from shared.webhooks.events import TERMINAL_EVENTS, EventType

MAX_METADATA_KEYS: Final = 50
MAX_MODEL_NAME: Final = 100
MAX_EVENT_TYPES: Final = 20
MAX_OUTPUTS: Final = 20
"""More than there are: one that is named twice counts once."""

MetadataKey = Annotated[str, StringConstraints(min_length=1, max_length=40)]
MetadataValue = Annotated[str, StringConstraints(max_length=500)]
Metadata = Annotated[dict[MetadataKey, MetadataValue], Field(max_length=MAX_METADATA_KEYS)]


class Webhook(BaseModel):
    """Where a job's events go; by default its end only."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: HttpUrl
    event_types: Annotated[tuple[EventType, ...], Field(max_length=MAX_EVENT_TYPES)] = (
        TERMINAL_EVENTS
    )


class CreateJob(RequestedParameters):
    """Everything a client may say about a job besides its picture."""

    model: Annotated[str, StringConstraints(max_length=MAX_MODEL_NAME)] | None = None
    priority: Priority = Priority.NORMAL
    outputs: tuple[Literal["poster", "gif", "spritesheet"], ...] = Field(
        default=(), max_length=MAX_OUTPUTS
    )
    queue_ttl_seconds: Whole | None = Field(default=None, ge=1, le=7 * 24 * 3600)
    retain_seconds: Whole | None = Field(default=None, ge=60)
    webhook: Webhook | None = None
    metadata: Metadata = Field(default_factory=dict)
