"""What a handler gets: the ports, and the headers and query of the request.

Dependencies are `async` although they wait for nothing, because FastAPI runs each plain one on a
thread of the pool that handlers use, and a frozen database may have taken all of these.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Final, Literal, cast

from fastapi import Depends, Header, Query, Request
from fastapi.dependencies.models import Dependant
from starlette.datastructures import Headers
from starlette.types import Scope

from api.ports import Ports
from api.validation_messages import misplaced_field, unknown_field
from shared.ids import PublicId
from shared.paging import Cut
from shared.settings import Settings

_HOST: Final = re.compile(r"(?:[A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?")


async def ports_of(request: Request) -> Ports:
    return cast(Ports, request.app.state.ports)


async def base_url(request: Request) -> str:
    """Return the beginning of this request's links, without a slash at the end.

    It is PUBLIC_URL if that is set, else the address that the client used; with a malformed or
    doubled Host links are relative. Forwarded headers are not trusted, because anybody can write
    them.
    """
    return base_url_of(request.scope, (await ports_of(request)).settings)


def base_url_of(scope: Scope, settings: Settings) -> str:
    """Return the same for a request that is not read further."""
    if settings.public_url is not None:
        return settings.public_url
    hosts = Headers(scope=scope).getlist("host")
    if len(hosts) != 1 or not _HOST.fullmatch(hosts[0]):
        return ""
    return f"{scope['scheme']}://{hosts[0]}"


def _query_names(dependant: Dependant) -> Iterator[str]:
    """Yield the query names that a route has, its own and those of its dependencies."""
    yield from (field.alias for field in dependant.query_params)
    for needed in dependant.dependencies:
        yield from _query_names(needed)


CACHE_BUSTERS: Final = frozenset(
    {
        *("_", "_t", "_ts", "_dc", "t", "ts", "time", "timestamp", "v", "cb", "r", "rnd", "rand"),
        *("random", "nocache", "no_cache", "no-cache", "cache", "cachebust", "cachebuster"),
        *("cache-buster", "cache_buster", "bust", "nonce"),
    }
)
"""Names that clients add to a query only to get past caches."""


async def known_query(request: Request) -> None:
    """Refuse query names that the route does not have: a misspelled filter would find everything.

    On reads, names that only defeat caches are ignored.

    Raises:
        UnknownParameter: the error names the nearest known one, or says where the field belongs.
    """
    route = request.scope["route"]
    known = [*_query_names(route.dependant)]
    described = (route.openapi_extra or {}).get("parameters", ())
    deep = [each["name"] for each in described if each.get("style") == "deepObject"]
    is_read = request.method in {"GET", "HEAD"}
    for name in request.query_params:
        if is_read and (name.lower() in CACHE_BUSTERS or (name.isdecimal() and name.isascii())):
            continue
        top, bracket, _ = name.partition("[")
        if not is_read and not known:
            raise misplaced_field(name)
        if name not in known and not (top in deep and bracket and name.endswith("]")):
            raise unknown_field(name, [*known, *(f"{each}[…]" for each in deep)])


Given = Annotated[Ports, Depends(ports_of)]
BaseUrl = Annotated[str, Depends(base_url)]


DEFAULT_LIMIT: Final = 20


@dataclass(frozen=True)
class Paging:
    """The page of a listing that a client asks for."""

    after: str | None
    limit: int
    order: Literal["asc", "desc"]

    def cut(self, ids: PublicId, *, wrong: str) -> Cut:
        """Return the part of a listing whose cursors are ids of this kind.

        Raises:
            InvalidRequest: `after` is not such an id; `wrong` is the message.
        """
        after = ids.parse_query(self.after, "after", wrong=wrong)
        return Cut(limit=self.limit, after=after, newest_first=self.order == "desc")


async def paging(
    after: Annotated[
        str | None, Query(max_length=100, description="The last id of the previous page.")
    ] = None,
    limit: Annotated[int, Query(ge=1, le=100)] = DEFAULT_LIMIT,
    order: Literal["asc", "desc"] = "desc",
) -> Paging:
    return Paging(after, limit, order)


Paged = Annotated[Paging, Depends(paging)]


MAX_WAIT_SECONDS: Final = 60

_WAIT: Final = re.compile(r"wait=\"?(\d{1,9})\"?", re.IGNORECASE)


@dataclass(frozen=True)
class Preferences:
    """`wait` is None if the client did not ask to wait."""

    wait: timedelta | None
    respond_async: bool


async def preferences(
    prefer: Annotated[
        str | None,
        Header(
            description="`wait=n` waits up to n seconds (0 to 60); `respond-async` not at all."
        ),
    ] = None,
) -> Preferences:
    """Read `Prefer`; values that cannot be read are ignored, as its RFC asks."""
    wait, respond_async = None, False
    for part in (prefer or "").split(","):
        match = _WAIT.fullmatch(part.strip())
        if match is not None:
            wait = timedelta(seconds=min(int(match[1]), MAX_WAIT_SECONDS))
        if part.strip().lower() == "respond-async":
            respond_async = True
    return Preferences(wait, respond_async)


Preferring = Annotated[Preferences, Depends(preferences)]
