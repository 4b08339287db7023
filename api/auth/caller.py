"""Who is asking: a key's holder, or the one anonymous owner while no key exists."""

import hmac
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Final, cast
from uuid import UUID

import structlog
from fastapi import Depends, Request
from starlette.datastructures import Headers
from starlette.types import Scope

from api.auth.anonymous import check_anonymous
from api.auth.key_cache import ApiKeyCache
from shared.api_keys.key import ApiKey, ApiKeySet, hashed
from shared.errors import AdminOnly, AppError, InvalidKey, MissingKey
from shared.settings import Settings
from shared.tables import ANONYMOUS

_BEARER: Final = re.compile(r"bearer +(\S+)", re.IGNORECASE)

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class Caller:
    """Whoever a request is answered for; every query names its `owner_id`.

    `name` is the public part of the key, or `anonymous`: one for each key, good for counting and
    for logs. Every admin has the one house owner's jobs. Caps are None where the settings' count.
    `models` is None where it may use all, `daily_seconds` where clips have no limit.
    `is_key_ignored` says that a key was sent which opened nothing, and none was needed.
    """

    owner_id: UUID
    name: str
    is_admin: bool = False
    max_queued: int | None = None
    max_running: int | None = None
    models: frozenset[str] | None = None
    is_read_only: bool = False
    daily_seconds: int | None = None
    is_key_ignored: bool = False


NOBODY: Final = Caller(owner_id=ANONYMOUS, name="anonymous")
NOBODY_WITH_A_KEY: Final = replace(NOBODY, is_key_ignored=True)
HOUSE: Final = Caller(owner_id=ANONYMOUS, name="admin", is_admin=True)
"""The holder of ADMIN_KEY, which is no row and needs no database."""

FOR_KEYS_ALONE: Final = ("/v1/keys", "/v1/admin")
"""Where a key that opens nothing is always refused: who sends one there means it."""


class Authenticator:
    """Tells who sends a request from its headers alone."""

    def __init__(self, settings: Settings, key_cache: ApiKeyCache) -> None:
        self._settings = settings
        self._key_cache = key_cache
        admin_key = settings.admin_key
        self._admin = None if admin_key is None else hashed(admin_key.get_secret_value())

    async def caller(self, scope: Scope) -> Caller:
        """Return who asks.

        Raises:
            MissingKey, InvalidKey: nobody who may.
            Forbidden: an anonymous request that a page of the web may have caused.
            DatabaseUnavailable: whether a key is good cannot be known now.
        """
        given = Headers(scope=scope).getlist("authorization")
        if given:
            return await self._holder(_token(given), scope)
        if self._admin is not None or not (await self._key_cache.read()).is_empty:
            raise MissingKey("this takes an API key; send it as `Authorization: Bearer sr_…`")
        check_anonymous(scope, self._settings)
        return NOBODY

    async def _holder(self, token: str, scope: Scope) -> Caller:
        if self._admin is not None and hmac.compare_digest(hashed(token), self._admin):
            return HOUSE
        ring = await self._key_cache.read()
        match = ring.match(token)
        if match is None:
            # It may be newer than what was read; whatever is wrong with it takes the same way.
            ring = await self._key_cache.read(at_most=0)
            match = ring.match(token)
        if match is None:
            return self._without(scope, ring)
        key = match.key
        if key.revoked_at is not None:
            raise InvalidKey("this API key was revoked; ask an admin for another")
        if match.is_old:
            # With the request's id: whoever rotates looks for who has not changed over yet.
            _log.info("old_api_key_used", key=key.prefix)
        self._key_cache.note_use(key.id)
        return _caller(key)

    def _without(self, scope: Scope, ring: ApiKeySet) -> Caller:
        """Return whom a key that opens nothing leaves: nobody, while there are no keys at all.

        Clients of other services send one always, if only `none`.

        Raises:
            InvalidKey: there are keys, or it would not do to send none.
        """
        unknown = "there is no such API key; it is mistyped, or another has replaced it"
        if self._admin is not None or not ring.is_empty or _is_for_keys_alone(scope["path"]):
            raise InvalidKey(unknown)
        try:
            check_anonymous(scope, self._settings)
        except AppError as error:
            raise InvalidKey(f"there is no such API key, and without one: {error}") from error
        _log.info("unknown_key_ignored", reason="there are no API keys yet")
        return NOBODY_WITH_A_KEY


async def authenticate(request: Request) -> Caller:
    """Return whom the gate has let in; on a public path there is nobody."""
    return cast(Caller, request.scope["state"]["caller"])


Authenticated = Annotated[Caller, Depends(authenticate)]


async def require_admin(caller: Authenticated) -> Caller:
    if not caller.is_admin:
        raise AdminOnly(
            "this takes an admin's key; `python -m api keys create NAME --admin` makes one"
        )
    return caller


def _is_for_keys_alone(path: str) -> bool:
    return any(path == each or path.startswith(f"{each}/") for each in FOR_KEYS_ALONE)


def _token(given: Sequence[str]) -> str:
    match = _BEARER.fullmatch(given[0].strip()) if len(given) == 1 else None
    if match is None:
        raise InvalidKey("the Authorization header is not `Bearer`, a blank and one API key")
    return match[1]


def _caller(key: ApiKey) -> Caller:
    return Caller(
        owner_id=key.owner_id,
        name=key.prefix,
        is_admin=key.is_admin,
        max_queued=key.max_queued,
        max_running=key.max_running,
        models=key.models,
        is_read_only=key.is_read_only,
        daily_seconds=key.daily_seconds,
    )
