"""API keys over HTTP, for admins: make, list, rotate, revoke."""

from datetime import datetime, timedelta
from typing import Annotated, Literal, Self

import structlog
from fastapi import APIRouter, Body, Depends, Response
from pydantic import BaseModel, Field

from api.auth.caller import require_admin
from api.dependencies import Given, known_query
from api.openapi import PROBLEMS
from api.route import Route
from api.submit.body import refuse_nul
from api.submit.json_body import KnownNames
from shared.api_keys.key import ApiKey
from shared.api_keys.store import MOST_OVERLAP, parse_key_id
from shared.jobs.create import MAX_MODEL_NAME
from shared.numbers import Real, Truth, Whole
from shared.settings import MOST_USD

router = APIRouter(
    route_class=Route,
    prefix="/v1/keys",
    tags=["keys"],
    dependencies=[Depends(require_admin), Depends(known_query)],
    responses=PROBLEMS,
)

Cap = Annotated[Whole, Field(ge=1, le=1_000_000)]

Dollars = Annotated[Real, Field(ge=0, le=MOST_USD)]
Hours = Annotated[Real, Field(ge=0, le=MOST_OVERLAP / timedelta(hours=1))]

_log = structlog.get_logger(__name__)


Models = Annotated[
    tuple[Annotated[str, Field(min_length=1, max_length=MAX_MODEL_NAME)], ...],
    Field(min_length=1, max_length=100),
]


class KeyLimits(KnownNames):
    """The limits of a key: a missing cap means the settings' own, missing `models` mean all.

    `daily_seconds` limits seconds of clips in a UTC day; a clip that fails or is canceled gives
    its seconds back. `daily_usd` limits dollars for hosted models in a UTC day; without it the
    settings' limit counts.
    """

    max_queued: Cap | None = None
    max_running: Cap | None = None
    models: Models | None = None
    is_read_only: Truth = False
    daily_seconds: Cap | None = None
    daily_usd: Dollars | None = None


class NewKey(KeyLimits):
    """A key to make."""

    name: Annotated[str, Field(max_length=64)]
    is_admin: Truth = False


class KeyRotation(KnownNames):
    """How long the old secret of a key works beside the new one."""

    overlap_hours: Hours = 0


class KeyView(BaseModel):
    """A key without its secret; `prefix` is the beginning of the key, and `caller` in logs."""

    id: str
    object: Literal["api_key"] = "api_key"
    name: str
    prefix: str
    is_admin: bool
    max_queued: int | None
    max_running: int | None
    models: list[str] | None
    is_read_only: bool
    daily_seconds: int | None
    daily_usd: float | None
    created_at: datetime
    last_used_at: datetime | None
    rotated_at: datetime | None
    previous_works_until: datetime | None
    revoked_at: datetime | None

    @classmethod
    def of(cls, shown: ApiKey, /, **more: str) -> Self:
        models = None if shown.models is None else sorted(shown.models)
        values = {**shown.__dict__, "models": models, "id": shown.public_id}
        return cls.model_validate({**values, **more})


class KeyWithSecret(KeyView):
    """A new or rotated key; only this answer shows `key`."""

    key: str


class KeyList(BaseModel):
    object: Literal["list"] = "list"
    data: list[KeyView]


@router.post("", status_code=201)
def create_key(new: NewKey, ports: Given, response: Response) -> KeyWithSecret:
    """Make a key; only this answer shows it."""
    refuse_nul(list(new.models or ()), "models")
    key, given = ports.keys.create(**new.model_dump())
    ports.key_cache.forget()
    _log.info("api_key_created", key=key.prefix, name=key.name, is_admin=key.is_admin)
    response.headers["Cache-Control"] = "no-store"
    return KeyWithSecret.of(key, key=given)


@router.get("")
def list_keys(ports: Given) -> KeyList:
    """List all keys, the oldest first, including revoked ones."""
    return KeyList(data=[KeyView.of(key) for key in ports.keys.all()])


@router.patch("/{key_id}")
def change_key(key_id: str, asked: KeyLimits, ports: Given) -> KeyView:
    """Change the named limits; null removes a limit."""
    refuse_nul(list(asked.models or ()), "models")
    changes = asked.model_dump(include=asked.model_fields_set)
    key = ports.keys.change(parse_key_id(key_id), changes)
    ports.key_cache.forget()
    _log.info("api_key_changed", key=key.prefix, name=key.name, fields=sorted(changes))
    return KeyView.of(key)


@router.post("/{key_id}/rotate")
def rotate_key(
    key_id: str,
    ports: Given,
    response: Response,
    asked: Annotated[KeyRotation | None, Body()] = None,
) -> KeyWithSecret:
    """Draw a new secret for a key, which keeps its jobs and caps; only this answer shows it."""
    hours = (asked or KeyRotation()).overlap_hours
    key, given = ports.keys.rotate(parse_key_id(key_id), overlap=timedelta(hours=hours))
    ports.key_cache.forget()
    _log.info("api_key_rotated", key=key.prefix, name=key.name, overlap_hours=hours)
    response.headers["Cache-Control"] = "no-store"
    return KeyWithSecret.of(key, key=given)


@router.delete("/{key_id}")
def revoke_key(key_id: str, ports: Given) -> KeyView:
    """End a key for good: the next request with it gets a 401; its jobs go on."""
    key = ports.keys.revoke(parse_key_id(key_id))
    ports.key_cache.forget()
    _log.info("api_key_revoked", key=key.prefix, name=key.name)
    return KeyView.of(key)
