"""What handlers are given: the ports, built once per process, and the request's own facts.

Dependencies are `async` although they wait for nothing: FastAPI gives each plain one a thread
of the pool that handlers use, and a frozen database may have taken them all.
"""

import re
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Final, cast

from fastapi import Depends, Query, Request

from api.auth import Doorman
from api.decoders import Decoders
from api.keybook import KeyBook
from api.lanes import Lanes
from api.metrics import Census, take_census
from api.readiness import Readiness
from api.snapshot import Snapshot
from api.waiting import Waiters
from api.wording import unknown_field
from shared.bell import Bell
from shared.db import Database
from shared.endpoints import Endpoints
from shared.fleet import Fleet
from shared.jobs import Jobs
from shared.keys import Keys
from shared.ledger import Ledger
from shared.outbound import Outbound
from shared.outbox import Outbox
from shared.oversight import Oversight
from shared.settings import Settings
from shared.storage import Storage

DATABASE_DEADLINE: Final = timedelta(seconds=3)
CONNECTIONS: Final = 10
KEY_DEADLINE: Final = timedelta(seconds=2)
KEY_CONNECTIONS: Final = 2
STORAGE_READ: Final = timedelta(seconds=5)
URL_CHECK: Final = timedelta(seconds=5)
IMAGE_FETCH: Final = timedelta(seconds=15)
CENSUS_FRESH: Final = timedelta(seconds=5)
CENSUS_PATIENCE: Final = timedelta(seconds=2)

_HOST: Final = re.compile(r"(?:[A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?")


@dataclass(frozen=True, kw_only=True)
class Ports:
    """Everything outside that a handler may use."""

    settings: Settings
    db: Database
    jobs: Jobs
    ledger: Ledger
    fleet: Fleet
    storage: Storage
    bell: Bell
    waiters: Waiters
    lanes: Lanes
    decoders: Decoders
    readiness: Readiness
    endpoints: Endpoints
    outbox: Outbox
    outbound: Outbound
    images: Outbound
    census: Snapshot[Census]
    keys: Keys
    book: KeyBook
    doorman: Doorman
    oversight: Oversight


@contextmanager
def open_ports(settings: Settings) -> Iterator[Ports]:
    """Build the ports and close them, the last one first; none of the services need be up."""
    redis_url = settings.redis_url.get_secret_value()
    with ExitStack() as opened:
        db = opened.enter_context(closing(_database(settings)))
        book = KeyBook(Keys(opened.enter_context(closing(_key_database(settings)))))
        storage = opened.enter_context(closing(Storage(settings, read=STORAGE_READ)))
        ledger, fleet = Ledger(db), Fleet(db)
        readiness = opened.enter_context(closing(Readiness(db, fleet, storage, redis_url)))
        bell = opened.enter_context(closing(Bell(redis_url)))
        decoders = opened.enter_context(closing(Decoders()))
        waiters = opened.enter_context(closing(Waiters(ledger, redis_url)))
        yield Ports(
            settings=settings,
            db=db,
            jobs=Jobs(db, bell, lease=settings.lease, max_running=settings.max_running_per_key),
            ledger=ledger,
            fleet=fleet,
            storage=storage,
            bell=bell,
            waiters=waiters,
            lanes=Lanes(connections=CONNECTIONS),
            decoders=decoders,
            readiness=readiness,
            endpoints=Endpoints(db),
            outbox=Outbox(db),
            outbound=_outbound(settings, URL_CHECK, max_bytes=0),
            images=_outbound(settings, IMAGE_FETCH, max_bytes=settings.max_upload_bytes),
            census=_census(db, ledger, fleet),
            keys=Keys(db),
            book=book,
            doorman=Doorman(settings, book),
            oversight=Oversight(db),
        )


def _database(settings: Settings) -> Database:
    url = settings.database_url.get_secret_value()
    return Database(url, deadline=DATABASE_DEADLINE, pool_size=CONNECTIONS, name="gateway")


def _key_database(settings: Settings) -> Database:
    """Of its own: slow queries that hold every other connection must not lock the door."""
    url = settings.database_url.get_secret_value()
    return Database(url, deadline=KEY_DEADLINE, pool_size=KEY_CONNECTIONS, name="gateway-keys")


def _census(db: Database, ledger: Ledger, fleet: Fleet) -> Snapshot[Census]:
    return Snapshot(
        lambda: take_census(db, ledger, fleet), fresh=CENSUS_FRESH, patience=CENSUS_PATIENCE
    )


def _outbound(settings: Settings, deadline: timedelta, *, max_bytes: int) -> Outbound:
    return Outbound(
        settings.outbound_networks,
        deadline=deadline,
        max_bytes=max_bytes,
        closed_ports=settings.own_ports,
    )


async def ports_of(request: Request) -> Ports:
    return cast(Ports, request.app.state.ports)


async def base_url(request: Request) -> str:
    """Return where this request's links begin, without a slash at the end.

    PUBLIC_URL where it is set, else the address the client itself used; a malformed Host gives
    relative links. Forwarded headers are anybody's to write and not believed.
    """
    public = (await ports_of(request)).settings.public_url
    if public is not None:
        return public
    host = request.headers.get("host", "")
    return f"{request.scope['scheme']}://{host}" if _HOST.fullmatch(host) else ""


async def known_query(request: Request) -> None:
    """Refuse query names the route does not have: a misspelled filter would find everything.

    Raises:
        UnknownParameter: names the nearest known one.
    """
    route = request.scope["route"]
    known = [field.alias for field in route.dependant.query_params]
    described = (route.openapi_extra or {}).get("parameters", ())
    deep = [each["name"] for each in described if each.get("style") == "deepObject"]
    for name in request.query_params:
        top, bracket, _ = name.partition("[")
        if name not in known and not (top in deep and bracket and name.endswith("]")):
            raise unknown_field(name, [*known, *(f"{each}[…]" for each in deep)])


After = Annotated[str | None, Query(max_length=100, description="The last id of the page before.")]
Given = Annotated[Ports, Depends(ports_of)]
BaseUrl = Annotated[str, Depends(base_url)]
