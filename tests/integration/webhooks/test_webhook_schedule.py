"""WEBHOOK_SCHEDULE lists the seconds before each try, including the first."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from shared.owners import ANONYMOUS
from shared.webhooks.delivery_log import DeliveryLog, DeliveryStatus, Window
from shared.webhooks.endpoints import Endpoints
from tests.support import receiver as twin
from tests.support.factory import JobFixture
from tests.support.outbox import ENDS, LOOPBACK, Sender
from tests.support.receiver import Receiver
from tests.support.stack import Stack

HOUR = timedelta(hours=1)


@pytest.fixture
def job_fixture(stack: Stack) -> Iterator[JobFixture]:
    desk = JobFixture(stack.settings(webhook_schedule="3600,5"))
    yield desk
    desk.close()


@pytest.fixture
def sender(job_fixture: JobFixture) -> Iterator[Sender]:
    delays = job_fixture.settings.webhook_delays
    sender = Sender(job_fixture, delays=delays, deadline=timedelta(seconds=30), allow=LOOPBACK)
    yield sender
    sender.deliverer.close()


def end(job_fixture: JobFixture, url: str) -> None:
    job = job_fixture.submit(webhook_url=url, webhook_event_types=ENDS)
    job_fixture.jobs.cancel(job.id, owner_id=ANONYMOUS)


def row(job_fixture: JobFixture) -> Any:
    (only,) = job_fixture.run(
        "SELECT *, next_at - clock_timestamp() AS wait FROM deliveries ORDER BY created_at"
    )
    return only


def pass_the_time(job_fixture: JobFixture, by: timedelta) -> None:
    job_fixture.run("UPDATE deliveries SET next_at = next_at - :by", by=by)


def test_the_first_try_waits_as_the_schedule_says(
    job_fixture: JobFixture, sender: Sender, receiver: Receiver
) -> None:
    end(job_fixture, receiver.url())
    assert HOUR - timedelta(minutes=1) < row(job_fixture)["wait"] <= HOUR
    assert sender.step() == 0
    pass_the_time(job_fixture, HOUR)
    sender.tried(1)
    assert len(receiver.requests) == 1
    assert row(job_fixture)["status"] == "delivered"


def test_the_number_of_tries_is_the_number_of_waits(
    job_fixture: JobFixture, sender: Sender, receiver: Receiver
) -> None:
    receiver.script("/", twin.status(500), twin.status(500))
    end(job_fixture, receiver.url())
    pass_the_time(job_fixture, HOUR)
    sender.tried(1)
    assert timedelta(0) < row(job_fixture)["wait"] <= timedelta(seconds=6)
    pass_the_time(job_fixture, HOUR)
    sender.tried(2)
    assert (row(job_fixture)["status"], len(receiver.requests)) == ("dead", 2)


@pytest.mark.parametrize("how", ["one", "range"])
def test_a_replay_goes_by_the_whole_schedule(
    job_fixture: JobFixture, sender: Sender, receiver: Receiver, how: str
) -> None:
    end(job_fixture, receiver.url())
    pass_the_time(job_fixture, HOUR)
    sender.tried(1)
    outbox = DeliveryLog(job_fixture.db, first_try=job_fixture.settings.first_try)
    if how == "one":
        outbox.replay(row(job_fixture)["id"], owner_id=ANONYMOUS)
    else:
        window = Window(
            since=row(job_fixture)["created_at"], until=None, status=DeliveryStatus.DELIVERED
        )
        endpoint = Endpoints(job_fixture.db).default(ANONYMOUS)
        assert outbox.replay_range(endpoint, window, owner_id=ANONYMOUS) == 1
    assert HOUR - timedelta(minutes=1) < row(job_fixture)["wait"] <= HOUR
    assert sender.step() == 0
    pass_the_time(job_fixture, HOUR)
    sender.tried(2)
    assert len(receiver.requests) == 2
