"""Senders that die, freeze or work side by side; dead receivers delay no others."""

import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import timedelta
from types import MappingProxyType
from uuid import UUID, uuid4

import pytest

from shared.owners import ANONYMOUS
from tests.support import receiver as twin
from tests.support.drawn_links import LINKS
from tests.support.outbox import BASE_URL, HOURLY, PATIENCE, Outbox, Sender
from tests.support.processes import until
from tests.support.receiver import Peer, Receiver
from worker.keeper.delivery_queue import (
    Delivery,
    DeliveryQueue,
    Kind,
    Outcome,
    Try,
    Verdict,
)
from worker.keeper.webhook_sender import (
    EACH,
    NEW_THREADS,
    PER_LANE,
    RETRY_THREADS,
    prepare,
    send,
)


def claim_one(queue: DeliveryQueue) -> list[Delivery]:
    return claim(queue, limit=1)


def claim(
    queue: DeliveryQueue,
    *,
    limit: int,
    per_owner: int = 1,
    owners_room: Mapping[UUID, int] = MappingProxyType({}),
) -> list[Delivery]:
    """Claim as a keeper that remembers no receiver and has nothing else in flight."""
    return queue.claim(
        Kind.NEW,
        limit=limit,
        busy_receiver_keys=[],
        proven_receiver_keys=[],
        per_receiver=PER_LANE,
        per_owner=per_owner,
        owners_room=owners_room,
    )


def test_a_sender_that_dies_between_send_and_record_sends_again(
    outbox: Outbox, receiver: Receiver
) -> None:
    outbox.finish(webhook_url=receiver.url())
    sender = outbox.sender()
    dying = DeliveryQueue(outbox.db, lease=timedelta(minutes=1))
    (delivery,) = claim_one(dying)
    contents = dying.contents(delivery)
    message = prepare(delivery, contents, links=LINKS, base_url=BASE_URL)
    assert send(sender.outbound, message).status_code == 200

    sender.step()
    assert len(receiver.requests) == 1  # The dead sender's lease has not ended.
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
    frozen = DeliveryQueue(outbox.db, lease=timedelta(minutes=1))
    (delivery,) = claim_one(frozen)
    late = Try(at=frozen.contents(delivery).now, latency=timedelta(0), error="no answer")
    outbox.end_leases()
    outbox.sender(delays=HOURLY).tried(1)

    assert not frozen.record(delivery, late, Verdict(outcome=Outcome.DEAD, is_gone=True))

    assert (outbox.row()["status"], outbox.row()["round_tries"]) == (status, 1)
    assert outbox.endpoint_row()["disabled_at"] is None
    assert [attempt["error"] for attempt in outbox.attempts()][1:] == ["no answer"]


def test_two_keepers_send_each_delivery_once(outbox: Outbox, receiver: Receiver) -> None:
    def answer(peer: Peer) -> None:
        # One keeper alone never has more in flight. Otherwise a quick keeper could finish before
        # the other starts.
        until(lambda: len(receiver.requests) > PER_LANE, "both keepers send")
        peer.send(b"HTTP/1.1 204 Fine\r\n\r\n")

    for number in range(40):
        outbox.finish(webhook_url=receiver.url(f"/{number}"))
        receiver.script(f"/{number}", answer)
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
    sender.deliverer.close()  # This waits for the broken delivery too.
    assert [request.path for request in receiver.requests] == ["/whole"]

    outbox.run("UPDATE jobs SET parameters = parameters || CAST('{\"fps\": 8}' AS jsonb)")
    outbox.end_leases()
    outbox.sender().tried(1)
    assert [request.path for request in receiver.requests] == ["/whole", "/broken"]


def test_no_transaction_is_open_while_a_receiver_thinks(
    outbox: Outbox, receiver: Receiver
) -> None:
    open_transactions: list[int] = []
    stepped, looked = threading.Event(), threading.Event()

    def look(peer: Peer) -> None:
        # A claim is a transaction too, so the look waits for its end.
        assert stepped.wait(PATIENCE)
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
    stepped.set()
    assert looked.wait(PATIENCE)
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
        # The limit is ten times the promise of one second for all.
        assert took < 10.0


@pytest.fixture
def dead() -> Iterator[Receiver]:
    """Hosts at every loopback address, which never answer a path that is a number."""
    with Receiver("0.0.0.0") as dead:  # noqa: S104 (each loopback address is a host here)
        for number in range(100):
            dead.script(f"/{number}", twin.hang())
        yield dead


def fill(outbox: Outbox, dead: Receiver, hosts: int, *, owner_id: UUID = ANONYMOUS) -> None:
    """Make two deliveries to one-off URLs at each of this many dead hosts."""
    for number in range(hosts):
        for _ in range(PER_LANE):
            url = dead.url(f"/{number}", host=f"127.0.1.{number + 1}")
            outbox.finish(webhook_url=url, owner_id=owner_id)


def fill_with_two_owners(outbox: Outbox, dead: Receiver, hosts: int) -> None:
    """Make these deliveries for two owners, because one does not get all threads of a kind."""
    for owner_id in (uuid4(), uuid4()):
        fill(outbox, dead, hosts // 2, owner_id=owner_id)


def test_thirty_dead_hosts_heard_of_for_the_first_time_delay_nobody(
    outbox: Outbox, dead: Receiver
) -> None:
    fill(outbox, dead, 30)
    for number in range(3):
        outbox.finish(webhook_url=dead.url("/alive", host=f"127.0.2.{number + 1}"))
    sender = outbox.sender(deadline=timedelta(seconds=60))
    began = time.monotonic()
    sender.tried(3)
    took = time.monotonic() - began

    assert len(dead.at("/alive")) == 3
    assert took < 10.0  # The limit is ten times the promise.
    sender.until(lambda: dead.connects == 30 * PER_LANE + 3)


def test_however_many_new_hosts_are_dead_a_proven_receiver_waits_for_none(
    outbox: Outbox, receiver: Receiver, dead: Receiver
) -> None:
    sender = outbox.sender(deadline=timedelta(seconds=60))
    outbox.finish(webhook_url=receiver.url("/first"))
    sender.tried(1)
    fill_with_two_owners(outbox, dead, NEW_THREADS // PER_LANE + 8)
    sender.until(lambda: dead.connects >= NEW_THREADS)

    outbox.finish(webhook_url=receiver.url("/again"))
    sender.tried(2)

    assert [request.path for request in receiver.requests] == ["/first", "/again"]
    assert dead.connects == NEW_THREADS


def test_however_many_endpoints_are_dead_their_retries_keep_to_their_threads(
    outbox: Outbox, receiver: Receiver, dead: Receiver
) -> None:
    sender = outbox.sender(deadline=timedelta(seconds=60))
    owners = uuid4(), uuid4()
    for number in range(RETRY_THREADS + 8):
        url = dead.url(f"/{number}", host="127.0.0.1")
        outbox.endpoint(url, owner_id=owners[number % 2])
    outbox.run("UPDATE webhook_endpoints SET failing_since = clock_timestamp()")
    for owner_id in owners:
        outbox.finish(owner_id=owner_id)
    sender.until(lambda: dead.connects >= RETRY_THREADS)
    outbox.finish(webhook_url=receiver.url())
    sender.tried(1)

    assert len(receiver.requests) == 1
    assert dead.connects == RETRY_THREADS


def test_a_proven_receiver_that_fails_must_prove_itself_again(
    outbox: Outbox, receiver: Receiver, dead: Receiver
) -> None:
    sender = outbox.sender(delays=HOURLY, deadline=timedelta(seconds=60))
    receiver.script("/", twin.status(200), twin.status(500), twin.status(200))
    for tries in (1, 2):
        outbox.finish(webhook_url=receiver.url())
        sender.tried(tries)
    fill_with_two_owners(outbox, dead, NEW_THREADS // PER_LANE)
    sender.until(lambda: dead.connects == NEW_THREADS)

    outbox.finish(webhook_url=receiver.url())

    assert sender.step() == 0


def test_one_owners_dead_receivers_leave_threads_for_another_owner(
    outbox: Outbox, receiver: Receiver, dead: Receiver
) -> None:
    sender = outbox.sender(deadline=timedelta(seconds=60))
    fill(outbox, dead, NEW_THREADS // PER_LANE + 1)
    sender.until(lambda: dead.connects >= EACH[Kind.NEW])
    outbox.finish(webhook_url=receiver.url(), owner_id=uuid4())
    sender.tried(1)

    assert len(receiver.requests) == 1
    assert dead.connects == EACH[Kind.NEW]


def test_one_owners_slow_host_is_not_waited_for_by_another_owner_of_the_same_host(
    outbox: Outbox, receiver: Receiver
) -> None:
    sender = outbox.sender(deadline=timedelta(seconds=60))
    receiver.script("/slow", twin.hang())
    for _ in range(PER_LANE + 1):
        outbox.finish(webhook_url=receiver.url("/slow"))
    sender.until(lambda: receiver.peak["/slow"] == PER_LANE)
    outbox.finish(webhook_url=receiver.url("/quick"), owner_id=uuid4())
    sender.tried(1)

    assert len(receiver.at("/quick")) == 1


def test_a_host_is_asked_by_two_at_a_time_however_its_urls_are_written(outbox: Outbox) -> None:
    for ending in ("?1", "?a:b", "#c", "/", ":80?2", ""):
        outbox.finish(webhook_url=f"http://same.Example.org{ending}")
    queue = DeliveryQueue(outbox.db, lease=timedelta(minutes=1))

    assert len(claim(queue, limit=9, per_owner=9)) == PER_LANE


def test_of_two_owners_the_one_with_less_in_flight_comes_first(outbox: Outbox) -> None:
    busy, idle = uuid4(), uuid4()
    for owner_id in (busy, busy, busy, busy, idle, idle, idle):
        outbox.finish(webhook_url=f"http://{uuid4()}.example.org/", owner_id=owner_id)
    queue = DeliveryQueue(outbox.db, lease=timedelta(minutes=1))

    first = claim(queue, limit=2, per_owner=3, owners_room={busy: 1})
    rest = claim(queue, limit=9, per_owner=3, owners_room={busy: 1, idle: 1})

    assert [each.owner_id for each in first] == [idle, idle]
    assert Counter(each.owner_id for each in rest) == {busy: 1, idle: 1}


def test_one_endpoint_is_asked_by_two_at_a_time(outbox: Outbox, receiver: Receiver) -> None:
    def answer(peer: Peer) -> None:
        until(lambda: len(receiver.requests) >= PER_LANE, "two ask at a time")
        peer.pause(0.05)  # A third request would be seen in this time.
        peer.send(b"HTTP/1.1 204 Fine\r\n\r\n")

    outbox.endpoint(receiver.url("/mine"))
    receiver.script("/mine", answer)
    for _ in range(10):
        outbox.finish()

    outbox.sender().tried(10)

    assert len(receiver.requests) == 10
    assert receiver.peak["/mine"] == PER_LANE
