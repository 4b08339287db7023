"""Headers for a receiver that needs a token: which tries send them, and where they appear."""

import json
from collections.abc import Iterator
from datetime import timedelta

import pytest
import requests
from sqlalchemy import text

from shared.webhooks.headers import HIDDEN
from tests.support import receiver as twin
from tests.support.drawn_links import seal_of
from tests.support.factory import JobFixture
from tests.support.gateway import FakeWorker, Gateway, running_gateway
from tests.support.outbox import AT_ONCE, LOOPBACK, Sender
from tests.support.receiver import Receiver
from tests.support.stack import Stack

TOKEN = "planted-token-5d1c77"
HEADERS = {"Authorization": f"Bearer {TOKEN}", "X-Tenant": "cms"}


@pytest.fixture(scope="module")
def house(module_stack: Stack) -> Iterator[Gateway]:
    with running_gateway(module_stack.settings(outbound_allow=str(LOOPBACK[0]))) as gateway:
        yield gateway


@pytest.fixture
def sender(module_stack: Stack, fake_worker: FakeWorker) -> Iterator[Sender]:
    desk = JobFixture(module_stack.settings())
    desk.run("TRUNCATE webhook_endpoints, deliveries CASCADE")
    sender = Sender(desk, delays=AT_ONCE, deadline=timedelta(seconds=30), allow=LOOPBACK)
    yield sender
    sender.deliverer.close()
    desk.close()


def asked(gateway: Gateway, receiver: Receiver, **more: str) -> requests.Response:
    fields = {f"webhook[headers][{name}]": value for name, value in HEADERS.items()}
    return gateway.create(**{"webhook[url]": receiver.url("/own")}, **fields, **more)


def test_each_try_takes_them_along_and_an_endpoint_never_gets_them(
    house: Gateway, fake_worker: FakeWorker, sender: Sender
) -> None:
    with Receiver() as receiver:
        receiver.script("/own", twin.status(503), twin.status(204))
        endpoint = {
            "name": "all",
            "url": receiver.url("/all"),
            "event_types": ["job.succeeded"],
        }
        assert house.post("/v1/webhook_endpoints", json=endpoint).status_code in {200, 201}
        assert asked(house, receiver).status_code == 202
        fake_worker.complete(fake_worker.claim())
        sender.tried(3)
        own = receiver.wait_for(2, "/own")
        for request in own:
            assert request.headers["authorization"] == HEADERS["Authorization"]
            assert request.headers["x-tenant"] == "cms"
            assert request.headers["webhook-signature"].startswith("v1,")
        (other,) = receiver.wait_for(1, "/all")
        assert "authorization" not in other.headers
        assert "x-tenant" not in other.headers


def test_they_are_shown_nowhere_not_even_where_the_receiver_repeats_them(
    house: Gateway, fake_worker: FakeWorker, sender: Sender, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    with Receiver() as receiver:
        receiver.script("/own", twin.status(200, f"got Bearer {TOKEN}, {TOKEN}".encode()))
        made = asked(house, receiver)
        job = fake_worker.complete(fake_worker.claim())
        sender.tried(1)
        assert receiver.wait_for(1, "/own")[0].headers["authorization"].endswith(TOKEN)
    log = house.get("/v1/webhook_endpoints/default/deliveries")
    assert log.json()["data"][0]["attempts"][0]["excerpt"] == f"got {HIDDEN}, {HIDDEN}"
    shown = [made, house.get(f"/v1/jobs/{job.public_id}"), house.get("/v1/jobs"), log]
    for answer in shown:
        assert TOKEN not in f"{answer.headers}{answer.text}"
    assert TOKEN not in caplog.text
    assert "webhook_headers_kept" in caplog.text
    assert "X-Tenant" in caplog.text
    assert TOKEN not in dump(fake_worker)


def test_a_webhook_whose_headers_cannot_be_opened_is_not_sent_without_them(
    module_stack: Stack, house: Gateway, fake_worker: FakeWorker, sender: Sender
) -> None:
    with Receiver() as receiver:
        asked(house, receiver)
        job = fake_worker.claim()
        other = seal_of(module_stack.settings(secret="another-secret-" * 3))
        sealed = other.seal(HEADERS, of=job.id)
        with fake_worker.db.begin() as connection:
            connection.execute(
                text("UPDATE jobs SET webhook_headers = :sealed WHERE id = :id"),
                {"sealed": sealed, "id": job.id},
            )
        fake_worker.complete(job)
        sender.tried(3)
        assert receiver.requests == []
    tries = house.get("/v1/webhook_endpoints/default/deliveries").json()["data"][0]
    assert tries["status"] == "dead"
    assert "STILLREEL_SECRET" in tries["attempts"][0]["error"]


def test_a_bad_header_is_told_before_there_is_a_job(
    house: Gateway, fake_worker: FakeWorker
) -> None:
    with Receiver() as receiver:
        fields = {
            "webhook[url]": receiver.url("/own"),
            "webhook[headers][Transfer-Encoding]": TOKEN,
        }
        refused = house.create(**fields)
    assert (refused.status_code, refused.json()["param"]) == (422, "webhook.headers")
    assert TOKEN not in refused.text
    assert house.get("/v1/jobs").json()["data"] == []


def dump(worker: FakeWorker) -> str:
    with worker.db.autocommit() as connection:
        rows = [
            connection.execute(text(f"SELECT json_agg(t)::text FROM {name} t")).scalar()  # noqa: S608
            for name in ("jobs", "deliveries", "delivery_attempts", "webhook_endpoints")
        ]
    return json.dumps(rows)
