"""Webhooks on a real Postgres, against receivers that answer well, badly or never."""

import contextlib
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from ipaddress import ip_network
from typing import Any
from uuid import UUID, uuid4

import pytest
from standardwebhooks import Webhook

from shared.job import Artifact, Job, Result, Variant
from shared.jobs import Claim
from shared.outbound import Outbound
from shared.signing import new_secret
from shared.tables import ANONYMOUS
from shared.wire import job_view
from tests import receiver as twin
from tests.factory import Desk
from tests.receiver import Behaviour, Peer, Received, Receiver
from tests.stack import Stack
from worker.deliveries import Deliveries, Outcome, Try, Verdict
from worker.webhook import MAX_ANSWER_BYTES, PER_LANE, RETRY_THREADS, Deliverer, prepare, send

LOOPBACK = (ip_network("127.0.0.0/8"),)
AT_ONCE = (timedelta(0),) * 3
HOURLY = (timedelta(0), timedelta(hours=1), timedelta(hours=1))
BASE_URL = "https://video.example.org"
TICK = timedelta(milliseconds=50)
PATIENCE = 20.0
ENDS = ["job.succeeded", "job.failed", "job.canceled"]
RESULT = Result(
    ai_generated=False,
    artifacts={
        Variant.VIDEO: Artifact(
            key="videos/x/1.mp4", content_type="video/mp4", bytes=1, sha256="0"
        )
    },
)


@pytest.fixture
def desk(module_stack: Stack) -> Iterator[Desk]:
    desk = Desk(module_stack.settings())
    desk.run("TRUNCATE jobs, webhook_endpoints, deliveries CASCADE")
    yield desk
    desk.close()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as receiver:
        yield receiver


class Sender:
    """A deliverer as the keeper runs it, driven by the test; it counts what it was told."""

    def __init__(
        self,
        desk: Desk,
        *,
        delays: Sequence[timedelta] = AT_ONCE,
        deadline: timedelta = timedelta(seconds=10),
        allow: Sequence[Any] = LOOPBACK,
    ) -> None:
        self.outbound = Outbound(allow, deadline=deadline, max_bytes=MAX_ANSWER_BYTES)
        self.outcomes: Counter[Outcome] = Counter()
        self.deliverer = Deliverer(
            desk.db, self.outbound, delays=delays, base_url=BASE_URL, on_try=self._count
        )

    def _count(self, outcome: Outcome) -> None:
        self.outcomes[outcome] += 1

    def until(self, reached: Callable[[], bool]) -> None:
        """Step until something is so, or fail."""
        ends_at = time.monotonic() + PATIENCE
        while not reached():
            assert time.monotonic() < ends_at, f"gave up after {dict(self.outcomes)}"
            self.deliverer.step(TICK)

    def tried(self, count: int) -> None:
        """Step until so many tries were recorded, and then no more are due."""
        self.until(lambda: self.outcomes.total() >= count)
        self.deliverer.step(TICK)


@pytest.fixture
def make_sender(desk: Desk) -> Iterator[Callable[..., Sender]]:
    with contextlib.ExitStack() as opened:

        def make(**options: Any) -> Sender:
            sender = Sender(desk, **options)
            opened.callback(sender.deliverer.close)
            return sender

        yield make


def finish(desk: Desk, *, webhook_url: str | None = None, types: Sequence[str] = ENDS) -> Job:
    """Queue, start and complete a job, so that its deliveries are due."""
    job = desk.submit(webhook_url=webhook_url, webhook_event_types=types)
    claimed = desk.jobs.claim(["noop"], worker="w#1")
    assert claimed is not None
    assert claimed.id == job.id
    return desk.jobs.complete(Claim(job.id, claimed.attempt), RESULT, {})


def endpoint(desk: Desk, url: str, types: Sequence[str] = ENDS) -> UUID:
    endpoint_id = uuid4()
    desk.run(
        "INSERT INTO webhook_endpoints (id, owner_id, name, url, event_types, secret)"
        " VALUES (:id, :owner, 'mine', :url, :types, :secret)",
        id=endpoint_id,
        owner=ANONYMOUS,
        url=url,
        types=list(types),
        secret=new_secret(),
    )
    return endpoint_id


def rows(desk: Desk) -> list[Any]:
    return list(desk.run("SELECT * FROM deliveries ORDER BY created_at, id"))


def row(desk: Desk) -> Any:
    (only,) = rows(desk)
    return only


def attempts(desk: Desk) -> list[Any]:
    return list(desk.run("SELECT * FROM delivery_attempts ORDER BY id"))


def endpoint_row(desk: Desk) -> Any:
    (only,) = desk.run("SELECT * FROM webhook_endpoints")
    return only


def secret(desk: Desk) -> str:
    return str(endpoint_row(desk)["secret"])


def verified(request: Received, signing_secret: str) -> Any:
    return Webhook(signing_secret).verify(request.body, request.headers)


def end_leases(desk: Desk) -> None:
    desk.run("UPDATE deliveries SET lease_until = clock_timestamp() - interval '1 s'")


# What arrives.


def test_a_finished_job_is_told_with_a_signature_that_verifies(
    desk: Desk, receiver: Receiver, make_sender: Callable[..., Sender]
) -> None:
    job = finish(desk, webhook_url=receiver.url("/hook"))

    sender = make_sender()
    sender.tried(1)

    (request,) = receiver.requests
    body = verified(request, secret(desk))
    assert (request.method, request.path) == ("POST", "/hook")
    assert request.headers["content-type"] == "application/json"
    assert request.headers["webhook-id"] == f"delivery_{row(desk)['id'].hex}"
    assert body["type"] == "job.succeeded"
    assert body["data"] == json.loads(job_view(job, base_url=BASE_URL).model_dump_json())
    assert datetime.fromisoformat(body["timestamp"]) == job.finished_at
    assert (row(desk)["status"], row(desk)["next_at"]) == ("delivered", None)
    assert row(desk)["delivered_at"] >= job.finished_at
    assert sender.outcomes == {Outcome.DELIVERED: 1}


def test_a_start_is_told_to_those_who_asked(
    desk: Desk, receiver: Receiver, make_sender: Callable[..., Sender]
) -> None:
    finish(desk, webhook_url=receiver.url(), types=["job.started"])

    make_sender().tried(1)

    (request,) = receiver.requests
    assert request.json()["type"] == "job.started"
    assert datetime.fromisoformat(request.json()["timestamp"]) == row(desk)["created_at"]


def test_every_try_has_the_same_id_and_a_signature_of_its_own(
    desk: Desk, receiver: Receiver, make_sender: Callable[..., Sender]
) -> None:
    receiver.script("/", twin.status(500, b"la\x00ter"), twin.reset(), twin.status(204))
    finish(desk, webhook_url=receiver.url())

    sender = make_sender()
    sender.tried(3)

    for request in receiver.requests:
        verified(request, secret(desk))
    assert len({request.headers["webhook-id"] for request in receiver.requests}) == 1
    assert len({request.json()["timestamp"] for request in receiver.requests}) == 1
    assert [
        (attempt["status_code"], attempt["error"], attempt["excerpt"])
        for attempt in attempts(desk)
    ] == [
        (500, "answered 500", "later"),
        (None, "127.0.0.1 cut the connection", None),
        (204, None, ""),
    ]
    assert sender.outcomes == {Outcome.RETRY: 2, Outcome.DELIVERED: 1}


def test_during_a_rotation_both_secrets_sign_and_afterwards_one(
    desk: Desk, receiver: Receiver, make_sender: Callable[..., Sender]
) -> None:
    finish(desk, webhook_url=receiver.url())
    old = new_secret()
    sender = make_sender()

    for overlap, signatures in (("1 hour", 2), ("-1 s", 1)):
        desk.run(
            "UPDATE webhook_endpoints SET previous_secret = :old,"
            " previous_secret_until = clock_timestamp() + CAST(:overlap AS interval)",
            old=old,
            overlap=overlap,
        )
        desk.run("UPDATE deliveries SET status = 'pending', next_at = clock_timestamp()")
        sender.tried(sender.outcomes.total() + 1)
        assert len(receiver.requests[-1].headers["webhook-signature"].split(" ")) == signatures
        verified(receiver.requests[-1], secret(desk))
    verified(receiver.requests[0], old)


# What the answers mean.


def test_the_next_try_waits_as_the_schedule_says(
    desk: Desk, receiver: Receiver, make_sender: Callable[..., Sender]
) -> None:
    receiver.script("/", twin.status(500))
    finish(desk, webhook_url=receiver.url())

    make_sender(delays=HOURLY).tried(1)

    wait = row(desk)["next_at"] - attempts(desk)[0]["at"]
    assert timedelta(minutes=48) <= wait <= timedelta(minutes=72, seconds=PATIENCE)
    assert (row(desk)["status"], row(desk)["round_tries"]) == ("pending", 1)
    assert len(receiver.requests) == 1


def test_waits_are_spread_so_that_retries_do_not_come_together(
    desk: Desk, receiver: Receiver, make_sender: Callable[..., Sender]
) -> None:
    receiver.script("/", twin.status(500))
    for _ in range(8):
        finish(desk, webhook_url=receiver.url())

    make_sender(delays=HOURLY).tried(8)

    waits = sorted(delivery["next_at"] for delivery in rows(desk))
    assert waits[-1] - waits[0] > timedelta(minutes=1)


def test_after_the_last_try_it_is_a_dead_letter(
    desk: Desk, receiver: Receiver, make_sender: Callable[..., Sender]
) -> None:
    receiver.script("/", twin.status(500))
    finish(desk, webhook_url=receiver.url())

    sender = make_sender()
    sender.tried(3)

    assert (row(desk)["status"], row(desk)["next_at"]) == ("dead", None)
    assert row(desk)["dead_reason"] == "try 3 of 3 failed: answered 500"
    assert len(receiver.requests) == 3
    assert sender.outcomes == {Outcome.RETRY: 2, Outcome.DEAD: 1}


def test_a_redirect_is_a_failure_and_nobody_is_asked_twice(
    desk: Desk, receiver: Receiver, make_sender: Callable[..., Sender]
) -> None:
    with Receiver() as private:
        receiver.script("/", twin.redirect(private.url()))
        finish(desk, webhook_url=receiver.url())

        make_sender(delays=HOURLY).tried(1)

        assert attempts(desk)[0]["error"].startswith("answered 302; redirects are not followed")
        assert private.connects == 0


@pytest.mark.parametrize("as_date", [False, True], ids=["seconds", "date"])
def test_a_receiver_that_is_busy_says_when(
    desk: Desk, receiver: Receiver, make_sender: Callable[..., Sender], as_date: bool
) -> None:
    two_hours_on = datetime.now(UTC) + timedelta(hours=2)
    asked = format_datetime(two_hours_on, usegmt=True) if as_date else "7200"
    receiver.script("/", twin.status(429, Retry_After=asked))
    finish(desk, webhook_url=receiver.url())

    make_sender(delays=HOURLY).tried(1)

    wait = row(desk)["next_at"] - attempts(desk)[0]["at"]
    assert timedelta(hours=1.9) < wait < timedelta(hours=2.5)


def test_a_204_that_comes_late_but_in_time_is_delivered(
    desk: Desk, receiver: Receiver, make_sender: Callable[..., Sender]
) -> None:
    receiver.script("/", twin.late(0.3))
    finish(desk, webhook_url=receiver.url())

    make_sender().tried(1)

    assert row(desk)["status"] == "delivered"
    assert 300 <= attempts(desk)[0]["latency_ms"] < 10_000


def test_a_receiver_without_an_answer_is_left_at_the_deadline(
    desk: Desk, receiver: Receiver, make_sender: Callable[..., Sender]
) -> None:
    receiver.script("/", twin.drip_head(0.05))
    finish(desk, webhook_url=receiver.url())

    make_sender(delays=HOURLY, deadline=timedelta(seconds=0.5)).tried(1)

    (attempt,) = attempts(desk)
    assert (attempt["status_code"], attempt["error"]) == (None, "no answer within 0.5 s")
    assert 400 < attempt["latency_ms"] < 5000


@pytest.mark.parametrize(
    "behaviour",
    [twin.endless_body(500), twin.gzip_bomb(), twin.status(500, b"\xff" * 20_000)],
    ids=["endless", "gzip", "not text"],
)
def test_an_excerpt_is_short_text_whatever_came(
    desk: Desk, receiver: Receiver, make_sender: Callable[..., Sender], behaviour: Behaviour
) -> None:
    receiver.script("/", behaviour)
    finish(desk, webhook_url=receiver.url())

    make_sender(delays=HOURLY).tried(1)

    (attempt,) = attempts(desk)
    assert 0 < len(attempt["excerpt"].encode()) <= MAX_ANSWER_BYTES


def test_a_private_address_is_not_reached_and_the_attempt_says_so(
    desk: Desk, receiver: Receiver, make_sender: Callable[..., Sender]
) -> None:
    finish(desk, webhook_url=receiver.url())

    make_sender(allow=(), delays=HOURLY).tried(1)

    assert receiver.connects == 0
    assert "is not at a public address" in attempts(desk)[0]["error"]
    assert row(desk)["status"] == "pending"


# Endpoints.


def test_410_disables_the_endpoint_and_ends_what_was_meant_for_it(
    desk: Desk, receiver: Receiver, make_sender: Callable[..., Sender]
) -> None:
    endpoint_id = endpoint(desk, receiver.url("/gone"))
    endpoint(desk, receiver.url("/well"))
    receiver.script("/gone", twin.status(410))
    first, second = finish(desk), finish(desk)
    desk.run(
        "UPDATE deliveries SET next_at = clock_timestamp() + interval '1 hour'"
        " WHERE job_id = :id AND endpoint_id = :endpoint",
        id=second.id,
        endpoint=endpoint_id,
    )
    sender = make_sender()
    sender.tried(3)
    desk.run("UPDATE deliveries SET next_at = clock_timestamp() WHERE status = 'pending'")
    sender.deliverer.step(TICK)

    reasons = {
        delivery["job_id"]: delivery["dead_reason"]
        for delivery in rows(desk)
        if delivery["endpoint_id"] == endpoint_id
    }
    assert reasons == {
        first.id: "the receiver answered 410 Gone",
        second.id: "the endpoint is disabled: the receiver answered 410 Gone",
    }
    assert len(receiver.at("/gone")) == 1
    assert len(receiver.at("/well")) == 2
    assert desk.run("SELECT url FROM webhook_endpoints WHERE disabled_at IS NOT NULL") == [
        {"url": receiver.url("/gone")}
    ]


def test_410_for_a_one_off_url_ends_that_delivery_only(
    desk: Desk, receiver: Receiver, make_sender: Callable[..., Sender]
) -> None:
    receiver.script("/gone", twin.status(410))
    finish(desk, webhook_url=receiver.url("/gone"))
    finish(desk, webhook_url=receiver.url("/well"))

    make_sender().tried(2)

    assert [delivery["status"] for delivery in rows(desk)] == ["dead", "delivered"]
    assert endpoint_row(desk)["disabled_at"] is None
    assert endpoint_row(desk)["failing_since"] is None


def test_a_deleted_endpoint_gets_nothing_more(
    desk: Desk, receiver: Receiver, make_sender: Callable[..., Sender]
) -> None:
    endpoint(desk, receiver.url())
    finish(desk)
    desk.run("UPDATE webhook_endpoints SET deleted_at = clock_timestamp()")

    make_sender().deliverer.step(TICK)

    assert (row(desk)["status"], row(desk)["dead_reason"]) == ("dead", "the endpoint was deleted")
    assert receiver.connects == 0


def test_a_success_ends_the_count_of_failing_days(
    desk: Desk, receiver: Receiver, make_sender: Callable[..., Sender]
) -> None:
    endpoint(desk, receiver.url())
    receiver.script("/", twin.status(500), twin.status(200))
    finish(desk)
    sender = make_sender(delays=HOURLY)

    sender.tried(1)
    assert endpoint_row(desk)["failing_since"] is not None
    desk.run("UPDATE deliveries SET next_at = clock_timestamp()")
    sender.tried(2)
    assert endpoint_row(desk)["failing_since"] is None


@pytest.mark.parametrize(("days", "disabled"), [(4.9, False), (5.1, True)])
def test_five_days_of_only_failures_disable_an_endpoint(
    desk: Desk,
    receiver: Receiver,
    make_sender: Callable[..., Sender],
    days: float,
    disabled: bool,
) -> None:
    endpoint(desk, receiver.url())
    receiver.script("/", twin.status(500))
    finish(desk)
    desk.run(
        "UPDATE webhook_endpoints"
        " SET failing_since = clock_timestamp() - :days * interval '1 day'",
        days=days,
    )

    make_sender(delays=HOURLY).tried(1)

    assert (endpoint_row(desk)["disabled_at"] is not None) is disabled
    assert str(endpoint_row(desk)["disabled_reason"]).startswith("every try since") is disabled


# Crashes, leases and other keepers.


def test_a_sender_that_dies_between_send_and_record_sends_again(
    desk: Desk, receiver: Receiver, make_sender: Callable[..., Sender]
) -> None:
    finish(desk, webhook_url=receiver.url())
    sender = make_sender()
    dying = Deliveries(desk.db, lease=timedelta(minutes=1))
    (delivery,) = dying.claim(limit=1, busy_lanes=[], per_lane=1, retries=False)
    message = prepare(delivery, dying.contents(delivery), base_url=BASE_URL)
    assert send(sender.outbound, message).status_code == 200

    sender.deliverer.step(TICK)
    assert len(receiver.requests) == 1  # Its lease still holds.
    end_leases(desk)
    sender.tried(1)

    first, again = receiver.requests
    assert first.headers["webhook-id"] == again.headers["webhook-id"]
    assert row(desk)["status"] == "delivered"


@pytest.mark.parametrize(("code", "status"), [(200, "delivered"), (500, "pending")])
def test_a_sender_whose_lease_ran_out_cannot_overwrite_the_record(
    desk: Desk, receiver: Receiver, make_sender: Callable[..., Sender], code: int, status: str
) -> None:
    endpoint(desk, receiver.url())
    finish(desk)
    receiver.script("/", twin.status(code))
    frozen = Deliveries(desk.db, lease=timedelta(minutes=1))
    (delivery,) = frozen.claim(limit=1, busy_lanes=[], per_lane=1, retries=False)
    late = Try(at=frozen.contents(delivery).now, latency=timedelta(0), error="no answer")
    end_leases(desk)
    make_sender(delays=HOURLY).tried(1)

    assert not frozen.record(delivery, late, Verdict(outcome=Outcome.DEAD, is_gone=True))

    assert (row(desk)["status"], row(desk)["round_tries"]) == (status, 1)
    assert endpoint_row(desk)["disabled_at"] is None
    assert [attempt["error"] for attempt in attempts(desk)][1:] == ["no answer"]


def test_two_keepers_send_each_delivery_once(
    desk: Desk, receiver: Receiver, make_sender: Callable[..., Sender]
) -> None:
    for number in range(40):
        finish(desk, webhook_url=receiver.url(f"/{number}"))
    senders = [make_sender(), make_sender()]

    def drive(sender: Sender) -> None:
        sender.until(lambda: sum((each.outcomes.total() for each in senders), 0) >= 40)

    threads = [threading.Thread(target=drive, args=(sender,)) for sender in senders]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)

    assert Counter(request.path for request in receiver.requests) == {
        f"/{number}": 1 for number in range(40)
    }
    assert all(sender.outcomes.total() for sender in senders)


def test_a_delivery_that_cannot_be_prepared_holds_up_nobody(
    desk: Desk, receiver: Receiver, make_sender: Callable[..., Sender]
) -> None:
    broken = finish(desk, webhook_url=receiver.url("/broken"))
    desk.run(
        "UPDATE jobs SET parameters = parameters - 'fps' WHERE id = :id",
        id=broken.id,
    )
    finish(desk, webhook_url=receiver.url("/whole"))

    sender = make_sender()
    sender.tried(1)
    assert [request.path for request in receiver.requests] == ["/whole"]

    desk.run("UPDATE jobs SET parameters = parameters || CAST('{\"fps\": 8}' AS jsonb)")
    end_leases(desk)
    sender.tried(2)
    assert [request.path for request in receiver.requests] == ["/whole", "/broken"]


def test_no_transaction_is_open_while_a_receiver_thinks(
    desk: Desk, receiver: Receiver, make_sender: Callable[..., Sender]
) -> None:
    open_transactions: list[int] = []

    def look(peer: Peer) -> None:
        (found,) = desk.run(
            "SELECT count(*) AS n FROM pg_stat_activity WHERE datname = current_database()"
            " AND xact_start IS NOT NULL AND pid <> pg_backend_pid() AND backend_type = :kind",
            kind="client backend",
        )
        open_transactions.append(found["n"])
        peer.send(b"HTTP/1.1 204 Fine\r\n\r\n")

    receiver.script("/", look)
    finish(desk, webhook_url=receiver.url())
    sender = make_sender()
    sender.deliverer.step(TICK)
    receiver.wait_for(1)
    sender.tried(1)

    assert open_transactions == [0]


# One dead receiver delays no other.


def test_a_dead_receiver_delays_no_other(
    desk: Desk, receiver: Receiver, make_sender: Callable[..., Sender]
) -> None:
    sender = make_sender(deadline=timedelta(seconds=60))
    with Receiver("127.0.0.2") as dead:
        dead.script("/", twin.hang())
        for _ in range(30):
            finish(desk, webhook_url=dead.url())
        for _ in range(20):
            finish(desk, webhook_url=receiver.url())
        began = time.monotonic()
        sender.tried(20)
        took = time.monotonic() - began

        assert len(receiver.requests) == 20
        assert dead.peak["/"] == PER_LANE
        assert took < 10.0  # Ten times the promise: one second for them all.


def test_however_many_are_dead_half_the_pool_is_for_the_others(
    desk: Desk, receiver: Receiver, make_sender: Callable[..., Sender]
) -> None:
    sender = make_sender(deadline=timedelta(seconds=60))
    with contextlib.ExitStack() as opened:
        dead = [opened.enter_context(Receiver(f"127.0.1.{number}")) for number in range(1, 13)]
        for each in dead:
            each.script("/", twin.hang())
            endpoint(desk, each.url())
        desk.run("UPDATE webhook_endpoints SET failing_since = clock_timestamp()")
        finish(desk)
        sender.until(lambda: sum(each.connects for each in dead) >= RETRY_THREADS)
        finish(desk, webhook_url=receiver.url())
        sender.tried(1)

        assert len(receiver.requests) == 1
        assert sum(each.connects for each in dead) == RETRY_THREADS


def test_one_endpoint_is_asked_by_two_at_a_time(
    desk: Desk, receiver: Receiver, make_sender: Callable[..., Sender]
) -> None:
    endpoint(desk, receiver.url("/mine"))
    receiver.script("/mine", twin.late(0.05))
    for _ in range(10):
        finish(desk)

    make_sender().tried(10)

    assert len(receiver.requests) == 10
    assert receiver.peak["/mine"] == PER_LANE
