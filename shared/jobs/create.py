"""The fields of a create request."""

from typing import Annotated, Any, Final, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    HttpUrl,
    SecretStr,
    StringConstraints,
)
from pydantic_core import PydanticCustomError

from shared.engines.parameters import RequestedParameters
from shared.jobs.job import Priority
from shared.numbers import Whole
from shared.webhooks.events import TERMINAL_EVENTS, EventType
from shared.webhooks.headers import MOST_HEADERS, check_headers

MAX_METADATA_KEYS: Final = 50
MAX_MODEL_NAME: Final = 100
MAX_EVENT_TYPES: Final = 20
MAX_OUTPUTS: Final = 20
"""More than there are, because one that is named twice counts once."""

MetadataKey = Annotated[str, StringConstraints(min_length=1, max_length=40)]
MetadataValue = Annotated[str, StringConstraints(max_length=500)]
Metadata = Annotated[dict[MetadataKey, MetadataValue], Field(max_length=MAX_METADATA_KEYS)]


def _checked(headers: Any) -> Any:
    """Report wrong headers in our own words, because the library's would quote their values."""
    is_text = isinstance(headers, dict) and all(
        isinstance(each, str) for pair in headers.items() for each in pair
    )
    if not is_text:
        raise PydanticCustomError("webhook_headers", "it takes names, each with one text")
    try:
        return check_headers(headers)
    except ValueError as error:
        raise PydanticCustomError("webhook_headers", "{said}", {"said": str(error)}) from None


class Webhook(BaseModel):
    """The receiver of a job's events; by default it gets only the end.

    `headers` are sent with each try, for a receiver that needs a token or a password. Nothing
    shows their values again.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: HttpUrl
    event_types: Annotated[tuple[EventType, ...], Field(max_length=MAX_EVENT_TYPES)] = (
        TERMINAL_EVENTS
    )
    headers: Annotated[dict[str, SecretStr], BeforeValidator(_checked)] = Field(
        default_factory=dict, max_length=MOST_HEADERS
    )


class CreateJob(RequestedParameters):
    """Everything that a client may say about a job besides its image."""

    model: Annotated[str, StringConstraints(max_length=MAX_MODEL_NAME)] | None = None
    priority: Priority = Priority.NORMAL
    outputs: tuple[Literal["poster", "gif", "spritesheet"], ...] = Field(
        default=(), max_length=MAX_OUTPUTS
    )
    queue_ttl_seconds: Whole | None = Field(default=None, ge=1, le=7 * 24 * 3600)
    retain_seconds: Whole | None = Field(default=None, ge=60)
    webhook: Webhook | None = None
    metadata: Metadata = Field(default_factory=dict)
