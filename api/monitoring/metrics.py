"""The metrics for Prometheus: the gateway's own traffic, and the queue as Postgres knows it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, SummaryMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from sqlalchemy import select

from shared.db import Database
from shared.engines.registry import EngineRegistry
from shared.jobs.queries import JobQueries, QueueState
from shared.jobs.usage import Usage
from shared.lifecycle import Status
from shared.tables.workers import workers
from shared.tallies import Ended, Tallies

METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 600)


class Traffic:
    """Counts the gateway's answers by route template and never by path."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._requests = Counter(
            "stillreel_http_requests",
            "Requests answered.",
            ("method", "route", "status"),
            registry=registry,
        )
        self._seconds = Histogram(
            "stillreel_http_request_seconds",
            "Time to the end of an answer.",
            ("method", "route"),
            buckets=SECONDS,
            registry=registry,
        )

    def record(self, method: str, route: str, status: int, seconds: float) -> None:
        method = method if method in METHODS else "other"  # Clients may invent any method.
        self._requests.labels(method, route, str(status)).inc()
        self._seconds.labels(method, route).observe(seconds)


@dataclass(frozen=True)
class Census:
    """The system as Postgres knows it at one moment."""

    live: list[tuple[str, str, int]]
    ended: list[Ended]
    queues: list[QueueState]
    deliveries: Mapping[str, int]
    webhook_tries: Mapping[str, int]
    model_loads: Mapping[str, tuple[int, float]]
    paid_today: Mapping[str, float]
    workers: int


def take_census(db: Database, queries: JobQueries, registry: EngineRegistry) -> Census:
    """Read the figures; the work of each query does not grow with the installation's age."""
    tallies = Tallies(db)
    tries = tallies.tries()
    with db.autocommit() as connection:
        loads = {row[0]: (row[1], row[2]) for row in connection.execute(_LOADS)}
    return Census(
        live=queries.live_counts(),
        ended=tallies.jobs(),
        queues=[queries.queue(offer.spec.name) for offer in registry.offers()],
        deliveries=tallies.deliveries(),
        webhook_tries={outcome: tries.get(outcome, 0) for outcome in ("delivered", "failed")},
        model_loads=loads,
        paid_today=Usage(db).paid_today(),
        workers=registry.live_workers(),
    )


_LOADS: Final = select(workers.c.name, workers.c.model_loads, workers.c.load_seconds)


class CensusCollector(Collector):
    """Shows the newest census; None, while Postgres is away, shows only that it is away."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.census: Census | None = None
        self.waiters = 0
        registry.register(self)

    def collect(self) -> Iterable[Metric]:
        census = self.census
        yield GaugeMetricFamily(
            "stillreel_http_waiters", "Requests that wait for a job.", value=self.waiters
        )
        yield GaugeMetricFamily(
            "stillreel_database_up",
            "Whether Postgres answered the last query for these figures.",
            value=0 if census is None else 1,
        )
        if census is None:
            return
        jobs = GaugeMetricFamily(
            "stillreel_jobs",
            "Jobs by status and engine: live ones as of now, others since the installation began.",
            labels=("status", "engine"),
        )
        for status, engine, count in census.live:
            jobs.add_metric((status, engine), count)
        for ended in census.ended:
            jobs.add_metric((ended.status, ended.engine), ended.count)
        yield jobs
        yield from _queues(census.queues)
        webhooks = GaugeMetricFamily(
            "stillreel_webhook_deliveries", "Deliveries not yet delivered.", labels=("status",)
        )
        for status, count in census.deliveries.items():
            webhooks.add_metric((status,), count)
        yield webhooks
        yield from _work(census)
        paid = GaugeMetricFamily(
            "stillreel_paid_usd_today",
            "What providers of hosted models charged for jobs that ended this UTC day.",
            labels=("engine",),
        )
        for engine, usd in census.paid_today.items():
            paid.add_metric((engine,), usd)
        yield paid
        yield GaugeMetricFamily(
            "stillreel_workers_alive", "Workers that beat recently.", value=census.workers
        )


class Telemetry:
    """The registry of one app, and the collectors in it."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.traffic = Traffic(self.registry)
        self.collector = CensusCollector(self.registry)


def _work(census: Census) -> Iterable[Metric]:
    tries = CounterMetricFamily(
        "stillreel_webhook_tries", "Tries to deliver a webhook.", labels=("outcome",)
    )
    for outcome, count in census.webhook_tries.items():
        tries.add_metric((outcome,), count)
    yield tries
    renders = SummaryMetricFamily(
        "stillreel_render_seconds", "Time engines took for finished clips.", labels=("engine",)
    )
    for done in census.ended:
        if done.status == Status.SUCCEEDED:
            renders.add_metric((done.engine,), count_value=done.count, sum_value=done.seconds)
    yield renders
    loads = CounterMetricFamily(
        "stillreel_model_loads", "Models loaded since the worker started.", labels=("worker",)
    )
    seconds = CounterMetricFamily(
        "stillreel_model_load_seconds",
        "Time that these loads took, including the unloading of the previous model.",
        labels=("worker",),
    )
    for worker, (count, took) in census.model_loads.items():
        loads.add_metric((worker,), count)
        seconds.add_metric((worker,), took)
    yield loads
    yield seconds


def _queues(queues: list[QueueState]) -> Iterable[Metric]:
    length = GaugeMetricFamily("stillreel_queue_jobs", "Queued jobs.", labels=("engine",))
    age = GaugeMetricFamily(
        "stillreel_queue_oldest_seconds", "Age of the oldest queued job.", labels=("engine",)
    )
    for queue in queues:
        length.add_metric((queue.engine,), queue.queued)
        age.add_metric((queue.engine,), queue.oldest_seconds or 0.0)
    yield length
    yield age
