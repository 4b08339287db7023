"""The log of deliveries, replays and tests, over HTTP and on a real Postgres."""

import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from shared.errors import InvalidRequest
from shared.owners import ANONYMOUS
from shared.webhooks.delivery_log import DeliveryLog, DeliveryStatus, Window
from shared.webhooks.endpoints import Endpoints
from shared.webhooks.signing import webhook_id
from tests.support import receiver as twin
from tests.support.gateway import Gateway
from tests.support.outbox import ENDS, HOURLY, Outbox, Sender
from tests.support.receiver import Receiver

LONG_AGO = "2020-01-01T00:00:00Z"


def registered(site: Gateway, url: str, *events: str) -> str:
    body = {"name": "mine", "url": url, "event_types": events or ENDS}
    answer = site.post("/v1/webhook_endpoints", json=body)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["id"])


def logged(site: Gateway, endpoint: str, query: str = "") -> list[Any]:
    answer = site.get(f"/v1/webhook_endpoints/{endpoint}/deliveries{query}")
    assert answer.status_code == 200, answer.text
    return list(answer.json()["data"])


def replay(site: Gateway, endpoint: str, **window: str) -> Any:
    answer = site.post(f"/v1/webhook_endpoints/{endpoint}/replay", json=window)
    assert answer.status_code == 200, answer.text
    return answer.json()["replayed"]


def test_the_log_shows_every_try_and_its_answer(
    webhook_gateway: Gateway, outbox: Outbox, receiver: Receiver
) -> None:
    endpoint = registered(webhook_gateway, receiver.url())
    receiver.script("/", twin.status(500, b"broken"), twin.reset(), twin.status(204))
    job = outbox.finish()
    outbox.sender().tried(3)

    (shown,) = logged(webhook_gateway, endpoint)
    assert (shown["job_id"], shown["event_type"]) == (job.public_id, "job.succeeded")
    assert (shown["webhook_endpoint_id"], shown["url"]) == (endpoint, receiver.url())
    assert (shown["status"], shown["next_at"], shown["dead_reason"]) == ("delivered", None, None)
    tries = shown["attempts"]
    assert [each["status_code"] for each in tries] == [500, None, 204]
    assert [each["excerpt"] for each in tries] == ["broken", None, ""]
    assert "cut the connection" in tries[1]["error"]
    assert all(each["latency_ms"] >= 0 for each in tries)
    assert webhook_gateway.get(f"/v1/webhook_deliveries/{shown['id']}").json() == shown
    assert receiver.requests[0].headers["webhook-id"] == shown["id"]


def test_pages_of_deliveries_are_in_the_order_they_were_made(
    webhook_gateway: Gateway, outbox: Outbox, receiver: Receiver
) -> None:
    endpoint = registered(webhook_gateway, receiver.url())
    made = [outbox.finish().public_id for _ in range(5)]
    first = logged(webhook_gateway, endpoint, "?limit=2")
    second = logged(webhook_gateway, endpoint, f"?limit=2&after={first[-1]['id']}")
    third = logged(webhook_gateway, endpoint, f"?limit=2&after={second[-1]['id']}")
    assert [each["job_id"] for each in first + second + third] == made[::-1]
    assert [each["job_id"] for each in logged(webhook_gateway, endpoint, "?order=asc")] == made
    wrong = webhook_gateway.get(f"/v1/webhook_endpoints/{endpoint}/deliveries?after=delivery_1")
    assert (wrong.status_code, wrong.json()["param"]) == (422, "after")


def test_the_log_is_narrowed_by_status_and_job(
    webhook_gateway: Gateway, outbox: Outbox, receiver: Receiver
) -> None:
    endpoint = registered(webhook_gateway, receiver.url())
    first = outbox.finish()
    outbox.sender().tried(1)
    second = outbox.finish()
    assert [each["job_id"] for each in logged(webhook_gateway, endpoint, "?status=delivered")] == [
        first.public_id
    ]
    assert [each["job_id"] for each in logged(webhook_gateway, endpoint, "?status=pending")] == [
        second.public_id
    ]
    of_job = logged(webhook_gateway, endpoint, f"?job_id={second.public_id}")
    assert [each["status"] for each in of_job] == ["pending"]


def test_a_dead_letter_is_replayed_under_its_own_id_and_by_the_whole_schedule(
    webhook_gateway: Gateway, outbox: Outbox, receiver: Receiver
) -> None:
    endpoint = registered(webhook_gateway, receiver.url())
    receiver.script("/", *[twin.status(500)] * 5, twin.status(200))
    outbox.finish()
    sender = outbox.sender()
    sender.tried(3)
    (dead,) = logged(webhook_gateway, endpoint)
    assert (dead["status"], len(dead["attempts"])) == ("dead", 3)

    again = webhook_gateway.post(f"/v1/webhook_deliveries/{dead['id']}/replay").json()
    assert (again["id"], again["status"], again["dead_reason"]) == (dead["id"], "pending", None)
    sender.tried(6)

    (delivered,) = logged(webhook_gateway, endpoint)
    assert (delivered["status"], len(delivered["attempts"])) == ("delivered", 6)
    assert {each.headers["webhook-id"] for each in receiver.requests} == {dead["id"]}


def test_a_delivered_one_can_be_sent_again(
    webhook_gateway: Gateway, outbox: Outbox, receiver: Receiver
) -> None:
    endpoint = registered(webhook_gateway, receiver.url())
    outbox.finish()
    sender = outbox.sender()
    sender.tried(1)
    assert replay(webhook_gateway, endpoint, since=LONG_AGO) == 0
    assert replay(webhook_gateway, endpoint, since=LONG_AGO, status="delivered") == 1
    sender.tried(2)
    first, again = receiver.requests
    assert first.headers["webhook-id"] == again.headers["webhook-id"]


def test_a_range_takes_what_was_made_from_since_to_before_until_and_no_test(
    webhook_gateway: Gateway, outbox: Outbox, receiver: Receiver
) -> None:
    endpoint = registered(webhook_gateway, receiver.url())
    jobs = [outbox.finish() for _ in range(4)]
    base = datetime(2026, 1, 1, tzinfo=UTC)
    for hour, job in enumerate(jobs):
        outbox.run(
            "UPDATE deliveries SET created_at = :at, status = 'dead', next_at = NULL"
            " WHERE job_id = :job",
            at=base + timedelta(hours=hour),
            job=job.id,
        )
    outbox.run(
        "INSERT INTO deliveries (id, owner_id, endpoint_id, event, url, status, created_at)"
        " SELECT gen_random_uuid(), owner_id, id, 'webhook.test', url, 'dead', :at"
        " FROM webhook_endpoints",
        at=base + timedelta(hours=1),
    )
    window = {"since": "2026-01-01T01:00:00Z", "until": "2026-01-01T04:00:00+01:00"}
    assert replay(webhook_gateway, endpoint, **window) == 2
    waiting = {each["job_id"] for each in logged(webhook_gateway, endpoint, "?status=pending")}
    assert waiting == {jobs[1].public_id, jobs[2].public_id}


def test_a_range_beyond_one_statement_is_refused_whole(outbox: Outbox, receiver: Receiver) -> None:
    endpoint_id = outbox.endpoint(receiver.url())
    for _ in range(3):
        outbox.finish()
    outbox.run("UPDATE deliveries SET status = 'dead', next_at = NULL")
    endpoint = Endpoints(outbox.db).get(endpoint_id, owner_id=ANONYMOUS)
    log = DeliveryLog(outbox.db, first_try=timedelta(0), max_replayed=2)
    window = Window(since=datetime(2020, 1, 1, tzinfo=UTC), until=None, status=DeliveryStatus.DEAD)
    with pytest.raises(InvalidRequest, match="more than 2 such deliveries") as refused:
        log.replay_range(endpoint, window, owner_id=ANONYMOUS)
    assert refused.value.param == "until"
    assert {row["status"] for row in outbox.rows()} == {"dead"}


def test_one_off_deliveries_are_listed_and_replayed_as_default(
    webhook_gateway: Gateway, outbox: Outbox, receiver: Receiver
) -> None:
    receiver.script("/mine", twin.status(410), twin.status(200))
    job = outbox.finish(webhook_url=receiver.url("/mine"))
    sender = outbox.sender()
    sender.tried(1)
    (dead,) = logged(webhook_gateway, "default")
    assert (dead["job_id"], dead["webhook_endpoint_id"]) == (job.public_id, "default")
    assert dead["status"] == "dead"
    assert replay(webhook_gateway, "default", since=LONG_AGO) == 1
    sender.tried(2)
    assert logged(webhook_gateway, "default")[0]["status"] == "delivered"


def test_what_ends_while_an_endpoint_is_disabled_waits_as_dead_letters(
    webhook_gateway: Gateway, outbox: Outbox, receiver: Receiver
) -> None:
    endpoint = registered(webhook_gateway, receiver.url())
    path = f"/v1/webhook_endpoints/{endpoint}"
    receiver.script("/", twin.status(410), twin.status(200))
    sender = outbox.sender()
    outbox.finish()
    sender.tried(1)
    assert webhook_gateway.get(path).json()["disabled_reason"] == "the receiver answered 410 Gone"
    outbox.finish()
    sender.until(lambda: {row["status"] for row in outbox.rows()} == {"dead"})
    dead = logged(webhook_gateway, endpoint)
    assert "410 Gone" in dead[0]["dead_reason"]
    for refused in (
        webhook_gateway.post(f"{path}/replay", json={"since": LONG_AGO}),
        webhook_gateway.post(f"/v1/webhook_deliveries/{dead[0]['id']}/replay"),
    ):
        assert (refused.status_code, refused.json()["code"]) == (409, "endpoint_disabled")

    webhook_gateway.post(path, json={"enabled": True})
    assert replay(webhook_gateway, endpoint, since=LONG_AGO) == 2
    sender.tried(3)
    assert {row["status"] for row in outbox.rows()} == {"delivered"}
    assert webhook_gateway.get(path).json()["failing_since"] is None


def test_what_waits_or_is_replayed_goes_to_the_new_url(
    webhook_gateway: Gateway, outbox: Outbox, receiver: Receiver
) -> None:
    endpoint = registered(webhook_gateway, receiver.url("/old"))
    outbox.finish()
    outbox.run("UPDATE deliveries SET status = 'dead', next_at = NULL")
    outbox.finish()
    path = f"/v1/webhook_endpoints/{endpoint}"
    assert webhook_gateway.post(path, json={"url": receiver.url("/new")}).status_code == 200
    assert replay(webhook_gateway, endpoint, since=LONG_AGO) == 1
    outbox.sender().tried(2)
    assert [each.path for each in receiver.requests] == ["/new", "/new"]


def test_a_replay_while_a_try_is_under_way_is_refused(
    webhook_gateway: Gateway, outbox: Outbox, receiver: Receiver
) -> None:
    endpoint = registered(webhook_gateway, receiver.url())
    asked = threading.Event()
    receiver.script("/", twin.once(asked))
    outbox.finish()
    sender = outbox.sender(delays=HOURLY)
    sender.until(lambda: len(receiver.requests) == 1)
    (shown,) = logged(webhook_gateway, endpoint)
    refused = webhook_gateway.post(f"/v1/webhook_deliveries/{shown['id']}/replay")
    assert (refused.status_code, refused.json()["code"]) == (409, "delivery_under_way")
    asked.set()
    sender.tried(1)
    assert logged(webhook_gateway, endpoint)[0]["status"] == "delivered"


@pytest.mark.parametrize("event", [None, "webhook.test", *ENDS, "job.started", "video.failed"])
def test_a_test_sends_a_sample_of_any_event(
    webhook_gateway: Gateway,
    outbox: Outbox,
    running_sender: Sender,
    receiver: Receiver,
    event: str | None,
) -> None:
    endpoint = registered(webhook_gateway, receiver.url(), "job.failed")
    body = None if event is None else {"event_type": event}
    answer = webhook_gateway.post(f"/v1/webhook_endpoints/{endpoint}/test", json=body)
    assert answer.status_code == 200, answer.text
    (request,) = receiver.requests
    assert request.json()["type"] == answer.json()["event_type"] == (event or "webhook.test")
    assert request.json()["data"]
    (shown,) = logged(webhook_gateway, endpoint)
    assert (shown["id"], shown["job_id"]) == (answer.json()["delivery_id"], None)


def test_a_test_without_an_answer_says_why_and_asks_for_no_retry(
    webhook_gateway: Gateway, outbox: Outbox, running_sender: Sender, receiver: Receiver
) -> None:
    endpoint = registered(webhook_gateway, receiver.url())
    receiver.script("/", twin.reset())
    answer = webhook_gateway.post(f"/v1/webhook_endpoints/{endpoint}/test")
    assert (answer.status_code, answer.json()["code"]) == (502, "outbound_failed")
    assert "cut the connection" in answer.json()["detail"]
    assert answer.headers["x-should-retry"] == "false"
    assert outbox.row()["status"] == "dead"


def test_a_disabled_endpoint_can_be_tested_before_it_is_enabled(
    webhook_gateway: Gateway, outbox: Outbox, running_sender: Sender, receiver: Receiver
) -> None:
    endpoint = registered(webhook_gateway, receiver.url())
    webhook_gateway.post(f"/v1/webhook_endpoints/{endpoint}", json={"enabled": False})
    tried = webhook_gateway.post(f"/v1/webhook_endpoints/{endpoint}/test").json()
    assert tried["status_code"] == 200
    assert tried["delivery_id"] == webhook_id(outbox.row()["id"])
    assert outbox.endpoint_row()["disabled_at"] is not None
