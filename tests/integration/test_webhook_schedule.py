"""WEBHOOK_SCHEDULE holds the seconds before each try, the first one too."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from shared.endpoints import Endpoints
from shared.outbox import DeliveryStatus, Outbox, Window
from shared.tables import ANONYMOUS
from tests import receiver as twin
from tests.factory import Desk
from tests.outbox import ENDS, LOOPBACK, Sender
from tests.receiver import Receiver
from tests.stack import Stack

HOUR = timedelta(hours=1)


@pytest.fixture
def desk(stack: Stack) -> Iterator[Desk]:
    desk = Desk(stack.settings(webhook_schedule="3600,5"))
    yield desk
    desk.close()


@pytest.fixture
def sender(desk: Desk) -> Iterator[Sender]:
    delays = desk.settings.webhook_delays
    sender = Sender(desk, delays=delays, deadline=timedelta(seconds=30), allow=LOOPBACK)
    yield sender
    sender.deliverer.close()


def end(desk: Desk, url: str) -> None:
    job = desk.submit(webhook_url=url, webhook_event_types=ENDS)
    desk.jobs.cancel(job.id, owner_id=ANONYMOUS)


def row(desk: Desk) -> Any:
    (only,) = desk.run(
        "SELECT *, next_at - clock_timestamp() AS wait FROM deliveries ORDER BY created_at"
    )
    return only


def pass_the_time(desk: Desk, by: timedelta) -> None:
    desk.run("UPDATE deliveries SET next_at = next_at - :by", by=by)


def test_the_first_try_waits_as_the_schedule_says(
    desk: Desk, sender: Sender, receiver: Receiver
) -> None:
    end(desk, receiver.url())
    assert HOUR - timedelta(minutes=1) < row(desk)["wait"] <= HOUR
    assert sender.step() == 0
    pass_the_time(desk, HOUR)
    sender.tried(1)
    assert len(receiver.requests) == 1
    assert row(desk)["status"] == "delivered"


def test_the_number_of_tries_is_the_number_of_waits(
    desk: Desk, sender: Sender, receiver: Receiver
) -> None:
    receiver.script("/", twin.status(500), twin.status(500))
    end(desk, receiver.url())
    pass_the_time(desk, HOUR)
    sender.tried(1)
    assert timedelta(0) < row(desk)["wait"] <= timedelta(seconds=6)
    pass_the_time(desk, HOUR)
    sender.tried(2)
    assert (row(desk)["status"], len(receiver.requests)) == ("dead", 2)


@pytest.mark.parametrize("how", ["one", "range"])
def test_a_replay_goes_by_the_whole_schedule(
    desk: Desk, sender: Sender, receiver: Receiver, how: str
) -> None:
    end(desk, receiver.url())
    pass_the_time(desk, HOUR)
    sender.tried(1)
    outbox = Outbox(desk.db, first_try=desk.settings.first_try)
    if how == "one":
        outbox.replay(row(desk)["id"], owner_id=ANONYMOUS)
    else:
        window = Window(since=row(desk)["created_at"], until=None, status=DeliveryStatus.DELIVERED)
        endpoint = Endpoints(desk.db).default(ANONYMOUS)
        assert outbox.replay_range(endpoint, window, owner_id=ANONYMOUS) == 1
    assert HOUR - timedelta(minutes=1) < row(desk)["wait"] <= HOUR
    assert sender.step() == 0
    pass_the_time(desk, HOUR)
    sender.tried(2)
    assert len(receiver.requests) == 2
