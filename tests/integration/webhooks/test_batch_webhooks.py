"""`batch.finished` is signed, tried, logged and replayed like the events of jobs."""

from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

from shared.ids import new_id
from shared.jobs.batch import NewBatch
from shared.owners import ANONYMOUS
from shared.webhooks.delivery_log import DeliveryLog, DeliveryStatus, Window
from shared.webhooks.endpoints import Endpoints
from tests.support.factory import JobFixture, new_job
from tests.support.gateway import FakeWorker, Gateway, data_uri, photo_png
from tests.support.outbox import Outbox
from tests.support.receiver import Receiver, status


def finish_batch(desk: JobFixture, *, webhook_url: str | None, jobs: int = 2) -> UUID:
    batch_id = new_id()
    batch = NewBatch(
        id=batch_id,
        owner_id=ANONYMOUS,
        metadata={"shop": "1"},
        webhook_url=webhook_url,
        idempotency_key=None,
        idempotency_fingerprint="x",
    )
    news = [new_job(batch_id=batch_id, batch_position=each) for each in range(1, jobs + 1)]
    desk.jobs.submit_batch(batch, news, max_queued=100)
    desk.jobs.cancel_batch(batch_id, owner_id=ANONYMOUS)
    return batch_id


def test_the_end_of_a_batch_is_sent_with_the_batch_as_get_shows_it(
    outbox: Outbox, outbox_job_fixture: JobFixture, receiver: Receiver
) -> None:
    batch_id = finish_batch(outbox_job_fixture, webhook_url=receiver.url("/hook"))
    outbox.sender().tried(1)
    (sent,) = receiver.requests
    body = sent.json()
    assert body["type"] == "batch.finished"
    assert body["data"]["id"] == f"batch_{batch_id.hex}"
    assert body["data"]["status"] == "finished"
    assert body["data"]["counts"]["canceled"] == 2
    assert body["data"]["metadata"] == {"shop": "1"}
    row = outbox.row()
    assert (row["status"], row["batch_id"], row["job_id"]) == ("delivered", batch_id, None)


def test_it_is_tried_by_the_whole_schedule_as_no_test_is(
    outbox: Outbox, outbox_job_fixture: JobFixture, receiver: Receiver
) -> None:
    receiver.script("/hook", status(500))
    finish_batch(outbox_job_fixture, webhook_url=receiver.url("/hook"))
    outbox.sender().tried(3)
    assert (outbox.row()["status"], outbox.row()["tries"]) == ("dead", 3)


def test_a_range_is_replayed_with_the_ends_of_batches(
    outbox: Outbox, outbox_job_fixture: JobFixture, receiver: Receiver
) -> None:
    endpoint_id = outbox.endpoint(receiver.url("/hook"))
    outbox.run("UPDATE webhook_endpoints SET event_types = '{batch.finished}'")
    finish_batch(outbox_job_fixture, webhook_url=None)
    outbox.run("UPDATE deliveries SET status = 'dead', next_at = NULL")
    endpoint = Endpoints(outbox.db).get(endpoint_id, owner_id=ANONYMOUS)
    since = outbox.row()["created_at"]
    window = Window(since=since, until=None, status=DeliveryStatus.DEAD)
    log = DeliveryLog(outbox.db, first_try=timedelta(0))
    assert log.replay_range(endpoint, window, owner_id=ANONYMOUS) == 1


def test_what_a_disabled_endpoint_would_hear_of_a_batch_becomes_a_dead_letter(
    outbox: Outbox, outbox_job_fixture: JobFixture, receiver: Receiver
) -> None:
    outbox.endpoint(receiver.url("/hook"))
    outbox.run(
        "UPDATE webhook_endpoints SET event_types = '{batch.finished}',"
        " disabled_at = clock_timestamp()"
    )
    finish_batch(outbox_job_fixture, webhook_url=None)
    outbox.sender().step()
    assert outbox.row()["status"] == "dead"
    assert receiver.requests == []


def test_a_batch_over_http_names_its_webhook_and_which_ends_it_tells(
    outbox: Outbox, webhook_gateway: Gateway, fake_worker: FakeWorker, receiver: Receiver
) -> None:
    body: dict[str, Any] = {
        "items": [{"image": {"data": data_uri(photo_png())}}] * 2,
        "webhook": {
            "url": receiver.url(f"/{uuid4().hex}"),
            "event_types": ["batch.finished", "job.canceled"],
        },
    }
    answer = webhook_gateway.post("/v1/batches", json=body)
    assert answer.status_code == 202, answer.text
    path = f"/v1/batches/{answer.json()['id']}"
    assert webhook_gateway.post(f"{path}/cancel").status_code == 200
    outbox.sender().tried(3)
    events = sorted(sent.json()["type"] for sent in receiver.requests)
    assert events == ["batch.finished", "job.canceled", "job.canceled"]
    log = webhook_gateway.get("/v1/webhook_endpoints/default/deliveries").json()["data"]
    assert sorted((each["event_type"], each["batch_id"] is not None) for each in log) == [
        ("batch.finished", True),
        ("job.canceled", False),
        ("job.canceled", False),
    ]


def test_what_a_receiver_asks_for_goes_along_with_a_batch_s_events_and_shows_nowhere(
    outbox: Outbox, webhook_gateway: Gateway, fake_worker: FakeWorker, receiver: Receiver
) -> None:
    token = "planted-token-81aa02"
    body: dict[str, Any] = {
        "items": [{"image": {"data": data_uri(photo_png())}}],
        "webhook": {
            "url": receiver.url("/own"),
            "event_types": ["batch.finished", "job.canceled"],
            "headers": {"Authorization": f"Bearer {token}", "X-Tenant": "cms"},
        },
    }
    receiver.script("/own", status(503), status(204), status(204))
    answer = webhook_gateway.post("/v1/batches", json=body)
    assert answer.status_code == 202, answer.text
    path = f"/v1/batches/{answer.json()['id']}"
    canceled = webhook_gateway.post(f"{path}/cancel")
    outbox.sender().tried(3)
    assert {sent.json()["type"] for sent in receiver.requests} == {
        "batch.finished",
        "job.canceled",
    }
    for sent in receiver.requests:
        assert sent.headers["authorization"] == f"Bearer {token}"
        assert sent.headers["x-tenant"] == "cms"
    (end,) = (sent for sent in receiver.requests[-2:] if sent.json()["type"] == "batch.finished")
    assert f"{path}/content?link=" in end.json()["data"]["content_url"]
    log = webhook_gateway.get("/v1/webhook_endpoints/default/deliveries")
    for shown in (answer, canceled, webhook_gateway.get(path), log):
        assert token not in f"{shown.headers}{shown.text}"
    rows = outbox.run(
        "SELECT to_jsonb(b)::text || to_jsonb(j)::text AS row FROM batches b, jobs j"
    )
    assert not any(token in row["row"] for row in rows)


def test_a_bad_header_of_a_batch_is_told_before_there_is_one(
    webhook_gateway: Gateway, receiver: Receiver
) -> None:
    body: dict[str, Any] = {
        "items": [{"image": {"data": data_uri(photo_png())}}],
        "webhook": {"url": receiver.url("/own"), "headers": {"Transfer-Encoding": "x"}},
    }
    answer = webhook_gateway.post("/v1/batches", json=body)
    assert (answer.status_code, answer.json()["param"]) == (422, "webhook.headers")
