"""Endpoints that are gone, deleted or failing for days; one-off URLs have no endpoint to lose."""

import pytest

from tests.support import receiver as twin
from tests.support.outbox import HOURLY, Outbox
from tests.support.receiver import Receiver


def test_410_disables_the_endpoint_and_ends_what_was_meant_for_it(
    outbox: Outbox, receiver: Receiver
) -> None:
    endpoint_id = outbox.endpoint(receiver.url("/gone"))
    outbox.endpoint(receiver.url("/well"))
    receiver.script("/gone", twin.status(410))
    first, second = outbox.finish(), outbox.finish()
    outbox.run(
        "UPDATE deliveries SET next_at = clock_timestamp() + interval '1 hour'"
        " WHERE job_id = :id AND endpoint_id = :endpoint",
        id=second.id,
        endpoint=endpoint_id,
    )
    sender = outbox.sender()
    sender.tried(3)
    outbox.run("UPDATE deliveries SET next_at = clock_timestamp() WHERE status = 'pending'")
    sender.step()

    reasons = {
        delivery["job_id"]: delivery["dead_reason"]
        for delivery in outbox.rows()
        if delivery["endpoint_id"] == endpoint_id
    }
    assert reasons == {
        first.id: "the receiver answered 410 Gone",
        second.id: "the endpoint is disabled: the receiver answered 410 Gone",
    }
    assert len(receiver.at("/gone")) == 1
    assert len(receiver.at("/well")) == 2
    assert outbox.run("SELECT url FROM webhook_endpoints WHERE disabled_at IS NOT NULL") == [
        {"url": receiver.url("/gone")}
    ]


def test_410_for_a_one_off_url_ends_that_delivery_only(outbox: Outbox, receiver: Receiver) -> None:
    receiver.script("/gone", twin.status(410))
    outbox.finish(webhook_url=receiver.url("/gone"))
    outbox.finish(webhook_url=receiver.url("/well"))

    outbox.sender().tried(2)

    assert [delivery["status"] for delivery in outbox.rows()] == ["dead", "delivered"]
    assert outbox.endpoint_row()["disabled_at"] is None
    assert outbox.endpoint_row()["failing_since"] is None


def test_a_deleted_endpoint_gets_nothing_more(outbox: Outbox, receiver: Receiver) -> None:
    outbox.endpoint(receiver.url())
    outbox.finish()
    outbox.run("UPDATE webhook_endpoints SET deleted_at = clock_timestamp()")

    outbox.sender().step()

    assert (outbox.row()["status"], outbox.row()["dead_reason"]) == (
        "dead",
        "the endpoint was deleted",
    )
    assert receiver.connects == 0


def test_a_success_ends_the_count_of_failing_days(outbox: Outbox, receiver: Receiver) -> None:
    outbox.endpoint(receiver.url())
    receiver.script("/", twin.status(500), twin.status(200))
    outbox.finish()
    sender = outbox.sender(delays=HOURLY)

    sender.tried(1)
    assert outbox.endpoint_row()["failing_since"] is not None
    outbox.run("UPDATE deliveries SET next_at = clock_timestamp()")
    sender.tried(2)
    assert outbox.endpoint_row()["failing_since"] is None


@pytest.mark.parametrize(("days", "disabled"), [(4.9, False), (5.1, True)])
def test_five_days_of_only_failures_disable_an_endpoint(
    outbox: Outbox,
    receiver: Receiver,
    days: float,
    disabled: bool,
) -> None:
    outbox.endpoint(receiver.url())
    receiver.script("/", twin.status(500))
    outbox.finish()
    outbox.run(
        "UPDATE webhook_endpoints"
        " SET failing_since = clock_timestamp() - :days * interval '1 day'",
        days=days,
    )

    outbox.sender(delays=HOURLY).tried(1)

    assert (outbox.endpoint_row()["disabled_at"] is not None) is disabled
    assert str(outbox.endpoint_row()["disabled_reason"]).startswith("every try since") is disabled
