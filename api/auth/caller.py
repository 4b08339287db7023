"""The caller of a request: the holder of a key, or the one anonymous owner while no key exists."""

import hmac
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Final, cast
from uuid import UUID

import structlog
from fastapi import Depends, Request
from starlette.datastructures import Headers
from starlette.types import Scope

from api.auth.anonymous import check_anonymous
from api.auth.cross_site import check_cross_site
from api.auth.key_cache import ApiKeyCache
from api.auth.login_proxy import LoginProxy
from api.auth.session_cache import SessionCache
from api.auth.session_cookie import read_token
from api.auth.signed_link import read_link
from shared.api_keys.key import ApiKey, ApiKeySet, hashed
from shared.api_keys.sessions import KeyProof, Session, Sessions
from shared.errors import AppError
from shared.errors.access import (
    AdminOnly,
    Forbidden,
    InvalidKey,
    LinkExpired,
    LinkRefused,
    MissingKey,
    SessionEnded,
    Unauthenticated,
)
from shared.jobs.batch import BATCH_ID
from shared.jobs.job import public_id
from shared.jobs.links import ZIP, Links, SignedLink
from shared.owners import ANONYMOUS
from shared.settings import Settings

_BEARER: Final = re.compile(r"bearer +(\S+)", re.IGNORECASE)

_log = structlog.get_logger(__name__)


class Way(StrEnum):
    """How a caller was let in; `header` is a login proxy's."""

    KEY = "key"
    SESSION = "session"
    HEADER = "header"
    LINK = "link"
    ANONYMOUS = "anonymous"


@dataclass(frozen=True, kw_only=True)
class Caller:
    """The caller that a request is answered for; every query names its `owner_id`.

    `name` is the public part of the key, or `anonymous`. There is one for each key, for counting
    and for logs. `title` is shown to the caller itself. All admins have the one owner `house`.
    Caps and `daily_usd` are None if the settings' values count, `models` if the caller may use
    all, and `daily_seconds` if clips have no limit.
    `is_key_ignored` says that an unknown key was sent where none was needed.
    """

    owner_id: UUID
    name: str
    title: str
    way: Way
    is_admin: bool = False
    max_queued: int | None = None
    max_running: int | None = None
    models: frozenset[str] | None = None
    is_read_only: bool = False
    daily_seconds: int | None = None
    daily_usd: float | None = None
    is_key_ignored: bool = False
    link: SignedLink | None = None
    """The one file that may be read, if the request has only a signed link; it owns no job
    then."""

    proof: KeyProof | None = field(default=None, repr=False)
    """The value that a session may begin with: the secret of the key that was sent."""

    until: datetime | None = None
    """The end of the session that the caller used."""


NOBODY: Final = Caller(owner_id=ANONYMOUS, name="anonymous", title="anonymous", way=Way.ANONYMOUS)
NOBODY_WITH_A_KEY: Final = replace(NOBODY, is_key_ignored=True)
HOUSE: Final = Caller(owner_id=ANONYMOUS, name="admin", title="admin", way=Way.KEY, is_admin=True)
"""The holder of ADMIN_KEY; it is no row and needs no database."""

FOR_KEYS_ALONE: Final = ("/v1/keys", "/v1/admin")
"""Paths where an unknown key is always refused, because a client that sends one there means it."""


class Authenticator:
    """Finds the caller of a request from its headers alone."""

    def __init__(
        self,
        settings: Settings,
        key_cache: ApiKeyCache,
        *,
        links: Links,
        sessions: Sessions,
        session_cache: SessionCache,
        login_proxy: LoginProxy,
    ) -> None:
        self._settings = settings
        self._key_cache = key_cache
        self._links = links
        self._sessions = sessions
        self._session_cache = session_cache
        self._login_proxy = login_proxy
        self._ring: ApiKeySet | None = None
        self._holders: dict[str, tuple[UUID, Caller]] = {}
        """What `_ring` was found to say, by the hash of a key's secret."""

        admin_key = settings.admin_key
        self._admin = None if admin_key is None else hashed(admin_key.get_secret_value())

    async def caller(self, scope: Scope) -> Caller:
        """Return the caller.

        Raises:
            MissingKey, InvalidKey, SessionEnded: no known caller.
            Forbidden: a request without a key that a page of the web may have caused, a link that
                opens nothing, or a login that somebody else than the proxy names.
            DatabaseUnavailable: whether a key is good cannot be known now.
        """
        given = Headers(scope=scope).getlist("authorization")
        if given:
            return await self._holder(_token(given), scope)
        try:
            link = read_link(scope, self._links, now=time.time())
        except (LinkRefused, LinkExpired) as refusal:
            try:
                return await self._keyless(scope)
            except (Unauthenticated, Forbidden):
                raise refusal from None  # A request with a signed link has no other proof.
        return await self._keyless(scope) if link is None else _bearer(link)

    async def _keyless(self, scope: Scope) -> Caller:
        """Return the caller of a request without a key and without a good link."""
        token = read_token(scope, self._settings)
        caller = await self._logged_in(scope)
        if caller is None and token is not None:
            caller = await self._signed_in(token)
        if caller is not None:
            check_cross_site(scope, self._settings)
            return caller
        if self._admin is not None or not (await self._key_cache.read()).is_empty:
            if token is not None:
                raise SessionEnded("this session has ended; sign in again with an API key")
            raise MissingKey("this takes an API key; send it as `Authorization: Bearer sr_…`")
        self._check_anonymous(scope)
        return NOBODY

    async def _logged_in(self, scope: Scope) -> Caller | None:
        """Return the caller that the login proxy names, or None if it names nobody."""
        login = self._login_proxy.login(scope)
        if login is None:
            return None
        is_admin = login in self._settings.admin_logins
        return Caller(
            owner_id=ANONYMOUS if is_admin else await self._login_proxy.owner_id(login),
            name=f"login:{login}",
            title=login,
            way=Way.HEADER,
            is_admin=is_admin,
        )

    async def _signed_in(self, token: str) -> Caller | None:
        """Return the owner of the session, while it and the secret of its key are valid."""
        session = await self._session_cache.find(token)
        if session is None:
            return None
        caller = self._begun_by(session, await self._key_cache.read())
        if caller is None:
            # Its key may be newer than what was read.
            caller = self._begun_by(session, await self._key_cache.read(at_most=0))
        return caller and replace(caller, way=Way.SESSION, until=session.expires_at)

    def _begun_by(self, session: Session, ring: ApiKeySet) -> Caller | None:
        """Return the holder of the key that a session began with, if that opens something."""
        if session.key_id is None:
            proof = self._admin and KeyProof(key_id=None, digest=self._admin)
            return HOUSE if proof and self._sessions.is_proved_by(session, proof) else None
        held = ring.digests(session.key_id)
        if held is None:
            return None
        key, digests = held
        proofs = (KeyProof(key_id=key.id, digest=digest) for digest in digests)
        if not any(self._sessions.is_proved_by(session, proof) for proof in proofs):
            return None
        self._key_cache.note_use(key.id)
        return _caller(key)

    def _check_anonymous(self, scope: Scope) -> None:
        """Let an anonymous caller pass, except through the login proxy: it must name a login."""
        if self._login_proxy.login(scope) is not None or self._login_proxy.is_behind(scope):
            raise MissingKey("the login proxy sent no login; log in there, or send an API key")
        check_anonymous(scope, self._settings)

    async def _holder(self, token: str, scope: Scope) -> Caller:
        digest = hashed(token)
        if self._admin is not None and hmac.compare_digest(digest, self._admin):
            return replace(HOUSE, proof=KeyProof(key_id=None, digest=digest))
        ring = await self._key_cache.read()
        if ring is not self._ring:
            self._ring, self._holders = ring, {}
        if digest in self._holders:
            key_id, holder = self._holders[digest]
            self._key_cache.note_use(key_id)
            return holder
        match = ring.match(token)
        if match is None:
            # The key may be newer than the keys that were read; a wrong key takes the same way.
            ring = await self._key_cache.read(at_most=0)
            match = ring.match(token)
        if match is None:
            return self._without(scope, ring)
        key = match.key
        if key.revoked_at is not None:
            raise InvalidKey("this API key was revoked; ask an admin for another")
        if match.is_old:
            # With the request's id, so that an admin who rotates finds clients that still use the
            # old key.
            _log.info("old_api_key_used", key=key.prefix)
        self._key_cache.note_use(key.id)
        holder = replace(_caller(key), proof=KeyProof(key_id=key.id, digest=digest))
        if ring is self._ring and not match.is_old:
            self._holders[digest] = key.id, holder
        return holder

    def _without(self, scope: Scope, ring: ApiKeySet) -> Caller:
        """Return the caller for an unknown key: nobody, while there are no keys at all.

        Clients of other services always send a key, even if it is only `none`.

        Raises:
            InvalidKey: there are keys, or the request would be refused without one too.
        """
        unknown = "there is no such API key; it is mistyped, or another has replaced it"
        if self._admin is not None or not ring.is_empty or _is_for_keys_alone(scope["path"]):
            raise InvalidKey(unknown)
        try:
            self._check_anonymous(scope)
        except AppError as error:
            raise InvalidKey(f"there is no such API key, and without one: {error}") from error
        _log.info("unknown_key_ignored", reason="there are no API keys yet")
        return NOBODY_WITH_A_KEY


async def authenticate(request: Request) -> Caller:
    """Return the caller that the authentication found; on a public path there is none."""
    return cast(Caller, request.scope["state"]["caller"])


Authenticated = Annotated[Caller, Depends(authenticate)]


async def require_admin(caller: Authenticated) -> Caller:
    if not caller.is_admin:
        raise AdminOnly(
            "this takes an admin's key; `python -m api keys create NAME --admin` makes one"
        )
    return caller


def _bearer(link: SignedLink) -> Caller:
    """Return the holder of a link; no owner has its id, so it owns no jobs."""
    name = f"link:{BATCH_ID.show(link.id) if link.variant == ZIP else public_id(link.id)}"
    return Caller(owner_id=link.id, name=name, title=name, way=Way.LINK, link=link)


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
        title=key.name,
        way=Way.KEY,
        is_admin=key.is_admin,
        max_queued=key.max_queued,
        max_running=key.max_running,
        models=key.models,
        is_read_only=key.is_read_only,
        daily_seconds=key.daily_seconds,
        daily_usd=key.daily_usd,
    )
