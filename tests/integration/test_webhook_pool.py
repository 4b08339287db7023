"""Senders that die, freeze or work side by side, and dead receivers that delay no other."""

import contextlib
import threading
import time
from collections import Counter
from datetime import timedelta

import pytest

from tests import receiver as twin
from tests.outbox import BASE_URL, HOURLY, PATIENCE, Outbox, Sender
from tests.receiver import Peer, Receiver
from worker.deliveries import Deliveries, Outcome, Try, Verdict
from worker.webhook import PER_LANE, RETRY_THREADS, prepare, send


def test_a_sender_that_dies_between_send_and_record_sends_again(
    outbox: Outbox, receiver: Receiver
) -> None:
    outbox.finish(webhook_url=receiver.url())
    sender = outbox.sender()
    dying = Deliveries(outbox.db, lease=timedelta(minutes=1))
    (delivery,) = dying.claim(limit=1, busy_lanes=[], per_lane=1, retries=False)
    message = prepare(delivery, dying.contents(delivery), base_url=BASE_URL)
    assert send(sender.outbound, message).status_code == 200

    sender.step()
    assert len(receiver.requests) == 1  # Its lease still holds.
    outbox.end_leases()
    sender.tried(1)

    first, again = receiver.requests
    assert first.headers["webhook-id"] == again.headers["webhook-id"]
    assert outbox.row()["status"] == "delivered"


@pytest.mark.parametrize(("code", "status"), [(200, "delivered"), (500, "pending")])
def test_a_sender_whose_lease_ran_out_cannot_overwrite_the_record(
    outbox: Outbox, receiver: Receiver, code: int, status: str
) -> None:
    outbox.endpoint(receiver.url())
    outbox.finish()
    receiver.script("/", twin.status(code))
    frozen = Deliveries(outbox.db, lease=timedelta(minutes=1))
    (delivery,) = frozen.claim(limit=1, busy_lanes=[], per_lane=1, retries=False)
    late = Try(at=frozen.contents(delivery).now, latency=timedelta(0), error="no answer")
    outbox.end_leases()
    outbox.sender(delays=HOURLY).tried(1)

    assert not frozen.record(delivery, late, Verdict(outcome=Outcome.DEAD, is_gone=True))

    assert (outbox.row()["status"], outbox.row()["round_tries"]) == (status, 1)
    assert outbox.endpoint_row()["disabled_at"] is None
    assert [attempt["error"] for attempt in outbox.attempts()][1:] == ["no answer"]


def test_two_keepers_send_each_delivery_once(outbox: Outbox, receiver: Receiver) -> None:
    for number in range(40):
        outbox.finish(webhook_url=receiver.url(f"/{number}"))
    senders = [outbox.sender(), outbox.sender()]

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
    outbox: Outbox, receiver: Receiver
) -> None:
    broken = outbox.finish(webhook_url=receiver.url("/broken"))
    outbox.run(
        "UPDATE jobs SET parameters = parameters - 'fps' WHERE id = :id",
        id=broken.id,
    )
    outbox.finish(webhook_url=receiver.url("/whole"))

    sender = outbox.sender()
    sender.tried(1)
    assert [request.path for request in receiver.requests] == ["/whole"]

    outbox.run("UPDATE jobs SET parameters = parameters || CAST('{\"fps\": 8}' AS jsonb)")
    outbox.end_leases()
    sender.tried(2)
    assert [request.path for request in receiver.requests] == ["/whole", "/broken"]


def test_no_transaction_is_open_while_a_receiver_thinks(
    outbox: Outbox, receiver: Receiver
) -> None:
    open_transactions: list[int] = []
    looked = threading.Event()

    def look(peer: Peer) -> None:
        (found,) = outbox.run(
            "SELECT count(*) AS n FROM pg_stat_activity WHERE datname = current_database()"
            " AND xact_start IS NOT NULL AND pid <> pg_backend_pid() AND backend_type = :kind",
            kind="client backend",
        )
        open_transactions.append(found["n"])
        looked.set()
        peer.send(b"HTTP/1.1 204 Fine\r\n\r\n")

    receiver.script("/", look)
    outbox.finish(webhook_url=receiver.url())
    sender = outbox.sender()
    sender.step()
    assert looked.wait(PATIENCE)  # Nothing steps meanwhile: a claim is a transaction too.
    sender.tried(1)

    assert open_transactions == [0]


def test_a_dead_receiver_delays_no_other(outbox: Outbox, receiver: Receiver) -> None:
    sender = outbox.sender(deadline=timedelta(seconds=60))
    with Receiver("127.0.0.2") as dead:
        dead.script("/", twin.hang())
        for _ in range(30):
            outbox.finish(webhook_url=dead.url())
        for _ in range(20):
            outbox.finish(webhook_url=receiver.url())
        began = time.monotonic()
        sender.tried(20)
        took = time.monotonic() - began

        assert len(receiver.requests) == 20
        assert dead.peak["/"] == PER_LANE
        assert took < 10.0  # Ten times the promise: one second for them all.


def test_however_many_are_dead_half_the_pool_is_for_the_others(
    outbox: Outbox, receiver: Receiver
) -> None:
    sender = outbox.sender(deadline=timedelta(seconds=60))
    with contextlib.ExitStack() as opened:
        dead = [opened.enter_context(Receiver(f"127.0.1.{number}")) for number in range(1, 13)]
        for each in dead:
            each.script("/", twin.hang())
            outbox.endpoint(each.url())
        outbox.run("UPDATE webhook_endpoints SET failing_since = clock_timestamp()")
        outbox.finish()
        sender.until(lambda: sum(each.connects for each in dead) >= RETRY_THREADS)
        outbox.finish(webhook_url=receiver.url())
        sender.tried(1)

        assert len(receiver.requests) == 1
        assert sum(each.connects for each in dead) == RETRY_THREADS


def test_one_endpoint_is_asked_by_two_at_a_time(outbox: Outbox, receiver: Receiver) -> None:
    outbox.endpoint(receiver.url("/mine"))
    receiver.script("/mine", twin.late(0.05))
    for _ in range(10):
        outbox.finish()

    outbox.sender().tried(10)

    assert len(receiver.requests) == 10
    assert receiver.peak["/mine"] == PER_LANE
