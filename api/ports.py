"""Everything outside that a handler may use: the ports, built once per process."""

from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from api.auth.caller import Doorman
from api.auth.key_cache import KeyBook
from api.concurrency.cached_read import Snapshot
from api.concurrency.job_waiters import Waiters
from api.concurrency.thread_pools import Lanes
from api.images.decoder_pool import Decoders
from api.monitoring.admin_queries import Oversight
from api.monitoring.metrics import Census, take_census
from api.monitoring.readiness import Readiness
from shared.api_keys.store import Keys
from shared.bell import Bell
from shared.db import Database
from shared.engines.registry import Fleet
from shared.jobs.queries import Ledger
from shared.jobs.transitions import Jobs
from shared.outbound.client import Outbound
from shared.settings import Settings
from shared.storage import Storage
from shared.webhooks.delivery_log import Outbox
from shared.webhooks.endpoints import Endpoints

DATABASE_DEADLINE: Final = timedelta(seconds=3)
CONNECTIONS: Final = 10
KEY_DEADLINE: Final = timedelta(seconds=2)
KEY_CONNECTIONS: Final = 2
STORAGE_READ: Final = timedelta(seconds=5)
URL_CHECK: Final = timedelta(seconds=5)
IMAGE_FETCH: Final = timedelta(seconds=15)
CENSUS_FRESH: Final = timedelta(seconds=5)
CENSUS_PATIENCE: Final = timedelta(seconds=2)


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
