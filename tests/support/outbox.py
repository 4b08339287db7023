"""The outbox of webhooks in tests: jobs that end, a sender to drive, rows to read."""

import contextlib
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Any, Final
from uuid import UUID, uuid4

import pytest

from shared.errors import OutOfMemory
from shared.jobs.job import Artifact, Job, Result, Variant
from shared.jobs.transitions import Claim
from shared.outbound.client import Outbound
from shared.owners import ANONYMOUS
from shared.webhooks.signing import new_secret
from tests.support.drawn_links import links_of, seal_of
from tests.support.factory import JobFixture
from tests.support.gateway import ADMIN_KEY, Gateway, running_gateway
from tests.support.receiver import Receiver
from tests.support.stack import Stack
from worker.keeper.delivery_queue import Delivery, Outcome
from worker.keeper.webhook_sender import MAX_ANSWER_BYTES, WebhookSender

LOOPBACK: Final = (ip_network("127.0.0.0/8"),)
AT_ONCE: Final = (timedelta(0),) * 3
HOURLY: Final = (timedelta(0), timedelta(hours=1), timedelta(hours=1))
BASE_URL: Final = "https://video.example.org"
TICK: Final = timedelta(milliseconds=50)
PATIENCE: Final = 60.0
ENDS: Final = ("job.succeeded", "job.failed", "job.canceled")
VIDEO: Final = Artifact(key="videos/x/1.mp4", content_type="video/mp4", bytes=1, sha256="0")
RESULT: Final = Result(ai_generated=False, artifacts={Variant.VIDEO: VIDEO})


class Counting(WebhookSender):
    """A sender that counts the results of its tries."""

    outcomes: Counter[Outcome]

    def deliver(self, delivery: Delivery) -> Outcome:
        outcome = super().deliver(delivery)
        self.outcomes[outcome] += 1
        return outcome


class Sender:
    """A sender as the keeper runs it, driven by the test."""

    def __init__(
        self,
        job_fixture: JobFixture,
        *,
        delays: Sequence[timedelta],
        deadline: timedelta,
        allow: Sequence[IPv4Network | IPv6Network],
    ) -> None:
        self.outbound = Outbound(allow, deadline=deadline, max_bytes=MAX_ANSWER_BYTES)
        self.outcomes: Counter[Outcome] = Counter()
        self.deliverer = Counting(
            job_fixture.db,
            self.outbound,
            delays=delays,
            links=links_of(job_fixture.settings),
            header_seal=seal_of(job_fixture.settings),
            base_url=BASE_URL,
        )
        self.deliverer.outcomes = self.outcomes

    def step(self) -> int:
        return self.deliverer.step(TICK)

    def until(self, reached: Callable[[], bool]) -> None:
        """Step until a condition holds, or fail."""
        ends_at = time.monotonic() + PATIENCE
        while not reached():
            assert time.monotonic() < ends_at, f"gave up after {dict(self.outcomes)}"
            self.step()

    def tried(self, count: int) -> None:
        """Step until that many tries were recorded, and once more for a possible next one."""
        self.until(lambda: self.outcomes.total() >= count)
        self.step()


class Outbox:
    """Ends jobs, drives senders and reads the rows, on a database of its own."""

    def __init__(self, job_fixture: JobFixture, opened: contextlib.ExitStack) -> None:
        self.run = job_fixture.run
        self.db = job_fixture.db
        self._desk = job_fixture
        self._opened = opened

    def sender(
        self,
        *,
        delays: Sequence[timedelta] = AT_ONCE,
        deadline: timedelta = timedelta(seconds=30),
        allow: Sequence[IPv4Network | IPv6Network] = LOOPBACK,
    ) -> Sender:
        sender = Sender(self._desk, delays=delays, deadline=deadline, allow=allow)
        self._opened.callback(sender.deliverer.close)
        return sender

    def finish(
        self, *, webhook_url: str | None = None, types: Sequence[str] = ENDS, **fields: Any
    ) -> Job:
        """Queue, start and complete a job, so that its deliveries are due."""
        claimed = self._started(webhook_url=webhook_url, webhook_event_types=types, **fields)
        return self._desk.jobs.complete(Claim(claimed.id, claimed.attempt), RESULT, {})

    def fail(self) -> Job:
        """Queue, start and fail a job."""
        claimed = self._started()
        error = OutOfMemory("too large")
        claim = Claim(claimed.id, claimed.attempt)
        return self._desk.jobs.fail(claim, error, retryable=False, metrics={})

    def cancel(self) -> Job:
        """Queue and cancel a job."""
        return self._desk.jobs.cancel(self._desk.submit().id, owner_id=ANONYMOUS)

    def endpoint(self, url: str, *, owner_id: UUID = ANONYMOUS) -> UUID:
        """Register an endpoint for the ends of jobs."""
        endpoint_id = uuid4()
        self.run(
            "INSERT INTO webhook_endpoints (id, owner_id, name, url, event_types, secret)"
            " VALUES (:id, :owner, 'mine', :url, :types, :secret)",
            id=endpoint_id,
            owner=owner_id,
            url=url,
            types=list(ENDS),
            secret=new_secret(),
        )
        return endpoint_id

    def _started(self, **fields: Any) -> Job:
        job = self._desk.submit(**fields)
        claimed = self._desk.jobs.claim(["noop"], worker="w#1")
        assert claimed is not None
        assert claimed.id == job.id
        return claimed

    def rows(self) -> list[Any]:
        return list(self.run("SELECT * FROM deliveries ORDER BY created_at, id"))

    def row(self) -> Any:
        (only,) = self.rows()
        return only

    def attempts(self) -> list[Any]:
        return list(self.run("SELECT * FROM delivery_attempts ORDER BY id"))

    def endpoint_row(self) -> Any:
        (only,) = self.run("SELECT * FROM webhook_endpoints")
        return only

    def secret(self) -> str:
        return str(self.endpoint_row()["secret"])

    def end_leases(self) -> None:
        self.run("UPDATE deliveries SET lease_until = clock_timestamp() - interval '1 s'")


@pytest.fixture(scope="module")
def outbox_job_fixture(module_stack: Stack) -> Iterator[JobFixture]:
    desk = JobFixture(module_stack.settings())
    yield desk
    desk.close()


@pytest.fixture
def outbox(outbox_job_fixture: JobFixture) -> Iterator[Outbox]:
    """An outbox without deliveries, endpoints or jobs."""
    outbox_job_fixture.run("TRUNCATE jobs, webhook_endpoints, deliveries CASCADE")
    with contextlib.ExitStack() as opened:
        yield Outbox(outbox_job_fixture, opened)


@pytest.fixture(scope="module")
def webhook_gateway(module_stack: Stack) -> Iterator[Gateway]:
    """A gateway on the outbox's database, whose operator lets webhooks reach loopback."""
    settings = module_stack.settings(outbound_allow=str(LOOPBACK[0]), admin_key=ADMIN_KEY)
    with running_gateway(settings) as gateway:
        yield gateway


@pytest.fixture
def running_sender(outbox: Outbox) -> Iterator[Sender]:
    """A sender that steps by itself, as in a keeper."""
    sender = outbox.sender()
    done = threading.Event()

    def walk() -> None:
        while not done.is_set():
            sender.step()

    thread = threading.Thread(target=walk, name="postman")
    thread.start()
    yield sender
    done.set()
    thread.join(PATIENCE)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as receiver:
        yield receiver
