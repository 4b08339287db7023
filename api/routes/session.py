"""The session of a browser: a key is exchanged for a cookie; who the caller is; signing out."""

from datetime import datetime, timedelta
from functools import partial
from typing import Literal

import structlog
from fastapi import APIRouter, Depends, Request, Response
from pydantic import BaseModel

from api.auth.caller import Authenticated, Caller, Way
from api.auth.cross_site import check_cross_site
from api.auth.session_cookie import keep_token, read_token
from api.dependencies import Given, known_query
from api.openapi import PROBLEMS
from api.ports import Ports
from api.route import Route
from shared.api_keys.sessions import LIVES
from shared.errors.access import MissingKey

router = APIRouter(
    route_class=Route,
    prefix="/v1/session",
    tags=["session"],
    dependencies=[Depends(known_query)],
    responses=PROBLEMS,
)

_log = structlog.get_logger(__name__)


class SessionView(BaseModel):
    """The caller, without secrets; `how` says how the caller was let in.

    `expires_at` is the end of a session, and null if there is none.
    """

    object: Literal["session"] = "session"
    name: str
    is_admin: bool
    how: Way
    expires_at: datetime | None


@router.post("", status_code=201)
async def sign_in(
    request: Request, response: Response, ports: Given, caller: Authenticated
) -> SessionView:
    """Begin a session with an API key in `Authorization`; later requests need only its cookie."""
    if caller.proof is None:
        raise MissingKey(
            "a session begins with an API key; send it as `Authorization: Bearer sr_…`"
        )
    # The rule for the session's requests is checked now, while a person can read the error.
    check_cross_site(request.scope, ports.settings)
    await _end(request, ports, caller)
    begin = partial(ports.sessions.begin, caller.proof)
    token, expires_at = await ports.pools.database.run(begin, owner_id=caller.owner_id)
    keep_token(response, request.scope, ports.settings, token, lives=LIVES)
    _log.info("session_began", key=caller.name)
    return SessionView(
        name=caller.title, is_admin=caller.is_admin, how=Way.SESSION, expires_at=expires_at
    )


@router.get("")
async def who_am_i(caller: Authenticated) -> SessionView:
    """Say who the caller is, and how it was let in."""
    return SessionView(
        name=caller.title, is_admin=caller.is_admin, how=caller.way, expires_at=caller.until
    )


@router.delete("", status_code=204, response_class=Response)
async def sign_out(request: Request, ports: Given, caller: Authenticated) -> Response:
    """End the session of this cookie, and make the browser delete it."""
    await _end(request, ports, caller)
    response = Response(status_code=204)
    keep_token(response, request.scope, ports.settings, "", lives=timedelta(0))
    return response


async def _end(request: Request, ports: Ports, caller: Caller) -> None:
    token = read_token(request.scope, ports.settings)
    if token is None or not ports.sessions.is_ours(token):
        return
    end = partial(ports.sessions.end, token)
    await ports.pools.database.run(end, owner_id=caller.owner_id)
    ports.session_cache.forget(token)
    _log.info("session_ended", key=caller.name)
