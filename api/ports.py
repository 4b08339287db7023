"""Everything outside that a handler may use: the ports, built once per process."""

from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from api.auth.caller import Authenticator
from api.auth.key_cache import ApiKeyCache
from api.auth.login_proxy import LoginProxy
from api.auth.patient_reads import PatientReads
from api.auth.session_cache import SessionCache
from api.concurrency.cached_read import CachedRead
from api.concurrency.job_waiters import JobWatcher
from api.concurrency.known_jobs import KnownJobs
from api.concurrency.known_offers import KnownOffers
from api.concurrency.queue_snapshot import QueueSnapshot
from api.concurrency.stream_slots import StreamSlots
from api.concurrency.thread_pools import ThreadPools
from api.concurrency.written_once import WrittenOnce
from api.images.decoder_pool import Decoders
from api.monitoring.admin_queries import AdminQueries
from api.monitoring.metrics import Census, take_census
from api.monitoring.readiness import Readiness
from api.server.descriptors import room_for_streams
from shared.api_keys.sessions import Sessions
from shared.api_keys.store import Keys
from shared.bell import Bell
from shared.db import Database
from shared.engines.registry import EngineRegistry, OfferHeads
from shared.installation_secret import InstallationSecret, Purpose
from shared.jobs.batch_queries import BatchQueries
from shared.jobs.heads import JobHeads
from shared.jobs.links import Links
from shared.jobs.news import JobNews
from shared.jobs.pauses import Pauses
from shared.jobs.preview_store import PreviewStore
from shared.jobs.queries import JobQueries
from shared.jobs.queue_boards import QueueBoards
from shared.jobs.transitions import Jobs
from shared.jobs.usage import Usage
from shared.outbound.client import Outbound
from shared.owners import Owners
from shared.settings import Settings
from shared.storage import Storage
from shared.uploads import Uploads
from shared.webhooks.delivery_log import DeliveryLog
from shared.webhooks.endpoints import Endpoints
from shared.webhooks.headers import HeaderSeal

DATABASE_DEADLINE: Final = timedelta(seconds=3)
CONNECTIONS: Final = 10
SHARED_READERS: Final = 2
"""The reads for those who wait and for those who poll: each is one, for however many."""

ON_THE_LOOP: Final = "gateway-polls"
"""Three connections, without a thread: for polls, first pages and models."""

KEY_DEADLINE: Final = timedelta(seconds=2)
KEY_CONNECTIONS: Final = 3  # The keys, the notes of their use, and sessions or logins.
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
    queries: JobQueries
    batches: BatchQueries
    usage: Usage
    pauses: Pauses
    registry: EngineRegistry
    storage: Storage
    bell: Bell
    job_watcher: JobWatcher
    news: JobNews
    stream_slots: StreamSlots
    snapshots: WrittenOnce
    queues: QueueSnapshot
    known_jobs: KnownJobs
    known_offers: KnownOffers
    pools: ThreadPools
    decoders: Decoders
    readiness: Readiness
    endpoints: Endpoints
    delivery_log: DeliveryLog
    uploads: Uploads
    webhook_url_checker: Outbound
    image_fetcher: Outbound
    census: CachedRead[Census]
    keys: Keys
    key_cache: ApiKeyCache
    links: Links
    previews: PreviewStore
    header_seal: HeaderSeal
    sessions: Sessions
    session_cache: SessionCache
    authenticator: Authenticator
    admin_queries: AdminQueries


@contextmanager
def open_ports(settings: Settings) -> Iterator[Ports]:
    """Build the ports and close them, the last one first; none of the services need be up."""
    redis_url = settings.redis_url.get_secret_value()
    url = settings.database_url.get_secret_value()
    secret = InstallationSecret.of(settings)
    links = Links(secret.keys(Purpose.LINKS), lives=settings.link_lives)
    with ExitStack() as opened:
        db = opened.enter_context(closing(_database(settings)))
        door = opened.enter_context(closing(_key_database(settings)))
        key_cache = ApiKeyCache(Keys(door))
        reads = opened.enter_context(closing(PatientReads()))
        session_keys = secret.keys(Purpose.SESSIONS)
        session_cache = SessionCache(Sessions(door, session_keys), reads)
        sessions = Sessions(db, session_keys)
        authenticator = Authenticator(
            settings,
            key_cache,
            links=links,
            sessions=sessions,
            session_cache=session_cache,
            login_proxy=LoginProxy(settings, Owners(door), reads),
        )
        storage = opened.enter_context(closing(Storage(settings, read=STORAGE_READ)))
        heads = opened.enter_context(
            closing(JobHeads(url, deadline=DATABASE_DEADLINE, name=ON_THE_LOOP))
        )
        offers = opened.enter_context(
            closing(OfferHeads(url, deadline=DATABASE_DEADLINE, name=ON_THE_LOOP))
        )
        pools = ThreadPools(connections=CONNECTIONS)
        queries, registry, news = JobQueries(db), EngineRegistry(db), JobNews(db)
        readiness = opened.enter_context(closing(Readiness(db, registry, storage, settings)))
        bell = opened.enter_context(closing(Bell(redis_url)))
        decoders = opened.enter_context(closing(Decoders()))
        job_watcher = opened.enter_context(closing(JobWatcher(queries, news, redis_url)))
        yield Ports(
            settings=settings,
            db=db,
            jobs=Jobs(
                db,
                bell,
                lease=settings.lease,
                first_try=settings.first_try,
                max_running=settings.max_running_per_key,
                paid_micros=settings.paid_micros_per_day,
            ),
            queries=queries,
            batches=BatchQueries(db),
            usage=Usage(db),
            pauses=Pauses(db),
            registry=registry,
            storage=storage,
            bell=bell,
            job_watcher=job_watcher,
            news=news,
            known_jobs=KnownJobs(heads, queries.many),
            known_offers=KnownOffers(offers, pools.database),
            snapshots=WrittenOnce(),
            queues=QueueSnapshot(QueueBoards(db).read),
            stream_slots=StreamSlots(each=settings.max_streams_per_key, most=room_for_streams()),
            pools=pools,
            decoders=decoders,
            readiness=readiness,
            endpoints=Endpoints(db),
            delivery_log=DeliveryLog(db, first_try=settings.first_try),
            uploads=Uploads(db),
            webhook_url_checker=_outbound(settings, URL_CHECK, max_bytes=0),
            image_fetcher=_outbound(settings, IMAGE_FETCH, max_bytes=settings.max_upload_bytes),
            census=_census(db, queries, registry),
            keys=Keys(db),
            key_cache=key_cache,
            links=links,
            previews=opened.enter_context(closing(PreviewStore(redis_url))),
            header_seal=HeaderSeal(secret.keys(Purpose.WEBHOOK_HEADERS)),
            sessions=sessions,
            session_cache=session_cache,
            authenticator=authenticator,
            admin_queries=AdminQueries(db),
        )


def _database(settings: Settings) -> Database:
    url = settings.database_url.get_secret_value()
    return Database(
        url, deadline=DATABASE_DEADLINE, pool_size=CONNECTIONS + SHARED_READERS, name="gateway"
    )


def _key_database(settings: Settings) -> Database:
    """Of its own: slow queries that hold every other connection must not lock the door."""
    url = settings.database_url.get_secret_value()
    return Database(url, deadline=KEY_DEADLINE, pool_size=KEY_CONNECTIONS, name="gateway-keys")


def _census(db: Database, queries: JobQueries, registry: EngineRegistry) -> CachedRead[Census]:
    return CachedRead(
        lambda: take_census(db, queries, registry), fresh=CENSUS_FRESH, patience=CENSUS_PATIENCE
    )


def _outbound(settings: Settings, deadline: timedelta, *, max_bytes: int) -> Outbound:
    return Outbound(
        settings.outbound_networks,
        deadline=deadline,
        max_bytes=max_bytes,
        closed_ports=settings.own_ports,
        inner_ports=settings.inner_ports,
    )
