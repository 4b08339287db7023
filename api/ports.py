"""Everything outside that a handler may use: the ports, built once per process."""

from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Protocol, TypeVar

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
from api.limits import SHIPPED, GatewayLimits
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

CONNECTIONS: Final = 10
SHARED_READERS: Final = 2
"""The reads for those who wait and for those who poll: each is one, for however many."""

ON_THE_LOOP: Final = "gateway-polls"
"""Three connections, without a thread: for polls, first pages and models."""

KEY_CONNECTIONS: Final = 3  # The keys, the notes of their use, and sessions or logins.


class _Port(Protocol):
    def close(self) -> None: ...


Closes = TypeVar("Closes", bound=_Port)


@dataclass(frozen=True, kw_only=True)
class Ports:
    """Everything outside that a handler may use."""

    settings: Settings
    limits: GatewayLimits
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
def open_ports(settings: Settings, limits: GatewayLimits = SHIPPED) -> Iterator[Ports]:
    """Build the ports and close them, the last one first; none of the services need be up."""
    with ExitStack() as opened:
        yield _Opening(settings, limits, opened).ports()


@dataclass(frozen=True)
class _Door:
    """What finds out who is asking."""

    key_cache: ApiKeyCache
    links: Links
    sessions: Sessions
    session_cache: SessionCache
    authenticator: Authenticator


class _Opening:
    """Builds the ports of one process, each with what it is given of the settings and limits."""

    def __init__(self, settings: Settings, limits: GatewayLimits, opened: ExitStack) -> None:
        self._settings = settings
        self._limits = limits
        self._opened = opened
        self._database_url = settings.database_url.get_secret_value()
        self._redis_url = settings.redis_url.get_secret_value()
        self._secret = InstallationSecret.of(settings)

    def ports(self) -> Ports:
        settings, limits = self._settings, self._limits
        db = self._database("gateway", limits.database, CONNECTIONS + SHARED_READERS)
        door = self._door(db)
        storage = self._closed_later(Storage(settings, read=limits.storage_read))
        bell = self._closed_later(Bell(self._redis_url, socket_seconds=limits.redis_seconds))
        queries, registry = JobQueries(db, searched=limits.searched), EngineRegistry(db)
        news, pools = JobNews(db, newest=limits.newest), self._pools()
        return Ports(
            settings=settings,
            limits=limits,
            db=db,
            jobs=self._jobs(db, bell),
            queries=queries,
            batches=BatchQueries(db),
            usage=Usage(db),
            pauses=Pauses(db),
            registry=registry,
            storage=storage,
            bell=bell,
            job_watcher=self._job_watcher(queries, news),
            news=news,
            known_jobs=self._known_jobs(queries),
            known_offers=self._known_offers(pools),
            snapshots=WrittenOnce(),
            queues=QueueSnapshot(QueueBoards(db).read),
            stream_slots=StreamSlots(each=settings.max_streams_per_key, most=room_for_streams()),
            pools=pools,
            decoders=self._closed_later(Decoders()),
            readiness=self._readiness(db, registry, storage),
            endpoints=Endpoints(db),
            delivery_log=DeliveryLog(db, first_try=settings.first_try),
            uploads=Uploads(db),
            webhook_url_checker=self._outbound(limits.url_check, max_bytes=0),
            image_fetcher=self._outbound(limits.image_fetch, max_bytes=settings.max_upload_bytes),
            census=self._census(db, queries, registry),
            keys=Keys(db),
            key_cache=door.key_cache,
            links=door.links,
            previews=self._previews(),
            header_seal=HeaderSeal(self._secret.keys(Purpose.WEBHOOK_HEADERS)),
            sessions=door.sessions,
            session_cache=door.session_cache,
            authenticator=door.authenticator,
            admin_queries=AdminQueries(db),
        )

    def _closed_later(self, port: Closes) -> Closes:
        return self._opened.enter_context(closing(port))

    def _database(self, name: str, deadline: timedelta, connections: int) -> Database:
        return self._closed_later(
            Database(
                self._database_url,
                deadline=deadline,
                pool_size=connections,
                name=name,
                patience_seconds=self._limits.database_patience_seconds,
            )
        )

    def _door(self, db: Database) -> _Door:
        """On connections of its own: slow queries that hold every other must not lock it."""
        patience_seconds = self._limits.keys_patience_seconds
        own = self._database("gateway-keys", self._limits.keys, KEY_CONNECTIONS)
        key_cache = ApiKeyCache(Keys(own), patience_seconds=patience_seconds)
        reads = self._closed_later(PatientReads(patience_seconds=patience_seconds))
        session_keys = self._secret.keys(Purpose.SESSIONS)
        links = Links(self._secret.keys(Purpose.LINKS), lives=self._settings.link_lives)
        sessions = Sessions(db, session_keys)
        session_cache = SessionCache(Sessions(own, session_keys), reads)
        authenticator = Authenticator(
            self._settings,
            key_cache,
            links=links,
            sessions=sessions,
            session_cache=session_cache,
            login_proxy=LoginProxy(self._settings, Owners(own), reads),
        )
        return _Door(key_cache, links, sessions, session_cache, authenticator)

    def _jobs(self, db: Database, bell: Bell) -> Jobs:
        return Jobs(
            db,
            bell,
            lease=self._settings.lease,
            first_try=self._settings.first_try,
            max_running=self._settings.max_running_per_key,
            paid_micros=self._settings.paid_micros_per_day,
        )

    def _job_watcher(self, queries: JobQueries, news: JobNews) -> JobWatcher:
        limits = self._limits
        return self._closed_later(
            JobWatcher(
                queries, news, self._redis_url, floor=limits.floor, most_news=limits.most_news
            )
        )

    def _known_jobs(self, queries: JobQueries) -> KnownJobs:
        heads = self._closed_later(
            JobHeads(
                self._database_url,
                deadline=self._limits.database,
                name=ON_THE_LOOP,
                patience_seconds=self._limits.database_patience_seconds,
            )
        )
        return KnownJobs(heads, queries.many, patience_seconds=self._limits.poll_seconds)

    def _known_offers(self, pools: ThreadPools) -> KnownOffers:
        heads = self._closed_later(
            OfferHeads(
                self._database_url,
                deadline=self._limits.database,
                name=ON_THE_LOOP,
                patience_seconds=self._limits.database_patience_seconds,
            )
        )
        return KnownOffers(heads, pools.database)

    def _pools(self) -> ThreadPools:
        return ThreadPools(
            connections=CONNECTIONS,
            patience_seconds=self._limits.lane_seconds,
            database_seconds=self._limits.database_lane_seconds,
        )

    def _readiness(self, db: Database, registry: EngineRegistry, storage: Storage) -> Readiness:
        return self._closed_later(
            Readiness(
                db,
                registry,
                storage,
                self._settings,
                fresh=self._limits.part_fresh,
                patience=self._limits.part,
                redis_seconds=self._limits.redis_probe_seconds,
            )
        )

    def _previews(self) -> PreviewStore:
        return self._closed_later(
            PreviewStore(self._redis_url, socket_seconds=self._limits.redis_seconds)
        )

    def _census(
        self, db: Database, queries: JobQueries, registry: EngineRegistry
    ) -> CachedRead[Census]:
        return CachedRead(
            lambda: take_census(db, queries, registry),
            fresh=self._limits.census_fresh,
            patience=self._limits.census,
        )

    def _outbound(self, deadline: timedelta, *, max_bytes: int) -> Outbound:
        return Outbound(
            self._settings.outbound_networks,
            deadline=deadline,
            max_bytes=max_bytes,
            closed_ports=self._settings.own_ports,
            inner_ports=self._settings.inner_ports,
        )
