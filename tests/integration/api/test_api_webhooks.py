"""Webhook endpoints over HTTP are made, checked, changed, rotated, and hidden from others."""

import socket
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
import requests

from shared.ids import new_id
from shared.webhooks.delivery_log import DeliveryLog as Log
from shared.webhooks.endpoints import MAX_ENDPOINTS, Endpoints
from tests.support.gateway import FakeWorker, Gateway, running_gateway
from tests.support.hostile import Resolver
from tests.support.stack import Stack

URL = "https://203.0.114.7/hook"  # A public address; nothing is ever sent there.
EVENTS = ["job.succeeded", "video.failed"]


@pytest.fixture
def site(gateway: Gateway, fake_worker: FakeWorker) -> Gateway:
    """A gateway without endpoints."""
    with fake_worker.db.begin() as connection:
        connection.exec_driver_sql("TRUNCATE webhook_endpoints CASCADE")
    return gateway


@pytest.fixture(scope="module")
def allowed(module_stack: Stack) -> Iterator[Gateway]:
    """A gateway whose operator allows loopback."""
    settings = module_stack.settings(outbound_allow="127.0.0.0/8")
    with running_gateway(settings) as gateway:
        yield gateway


def register(site: Gateway, **fields: Any) -> requests.Response:
    body = {"name": "mine", "url": URL, "event_types": EVENTS, **fields}
    return site.post("/v1/webhook_endpoints", json=body)


def registered(site: Gateway, **fields: Any) -> dict[str, Any]:
    answer = register(site, **fields)
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


def test_only_the_answer_that_makes_a_secret_shows_it(site: Gateway) -> None:
    made = registered(site)
    secret = made.pop("signing_secret")
    path = f"/v1/webhook_endpoints/{made['id']}"
    assert secret.startswith("whsec_")
    assert made["signing_secret_hint"].endswith(secret[-4:])
    assert (made["name"], made["url"], made["event_types"]) == ("mine", URL, EVENTS)
    assert (made["object"], made["status"]) == ("webhook_endpoint", "enabled")
    assert site.get(path).json() == made
    assert site.get("/v1/webhook_endpoints").json()["data"] == [made]
    rotated = site.post(f"{path}/rotate_secret").json()
    assert rotated["signing_secret"] not in (secret, None)
    assert "signing_secret" not in site.post(path, json={"name": "new"}).json()


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://127.0.0.1/hook", "not at a public address"),
        ("http://10.1.2.3/hook", "not at a public address"),
        ("http://169.254.169.254/latest", "not at a public address"),
        ("http://[::1]/hook", "not at a public address"),
        ("http://2130706433/hook", "not at a public address"),
        ("ftp://example.org/hook", "begins with https:// or http://"),
        ("https://user:secret@203.0.114.7/", "no user name or password"),
        ("example.org", "begins with https:// or http://"),
        ("https://no-such-name.invalid/hook", "does not resolve"),
        ("https://203.0.114.7/\0", "NUL"),
    ],
)
def test_a_url_that_could_not_be_sent_to_is_refused_with_its_reason(
    site: Gateway, monkeypatch: pytest.MonkeyPatch, url: str, reason: str
) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", Resolver())  # No name server is asked.
    made = registered(site)
    for answer in (
        register(site, url=url),
        site.post(f"/v1/webhook_endpoints/{made['id']}", json={"url": url}),
    ):
        assert (answer.status_code, answer.json()["param"]) == (422, "url")
        assert reason in answer.json()["detail"]
    assert site.get(f"/v1/webhook_endpoints/{made['id']}").json()["url"] == URL


def test_a_private_address_is_taken_where_its_network_is_allowed(allowed: Gateway) -> None:
    assert register(allowed, url="http://127.0.0.1:8009/hook").status_code == 200
    assert register(allowed, url="http://10.0.0.1/hook").status_code == 422


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"event_types": []}, "event_types"),
        ({"event_types": ["job.done"]}, "event_types.0"),
        ({"event_types": ["response.completed"]}, "event_types.0"),
        ({"name": ""}, "name"),
        ({"name": None}, "name"),
        ({"secret": "mine"}, "secret"),
    ],
)
def test_a_wrong_field_names_itself(site: Gateway, fields: dict[str, Any], param: str) -> None:
    answer = register(site, **fields)
    assert (answer.status_code, answer.json()["param"]) == (422, param)


def test_a_wrong_event_is_told_once_and_not_as_an_empty_list_too(site: Gateway) -> None:
    detail = register(site, event_types=["job.done"]).json()["detail"]
    assert detail.startswith("event_types.0 'job.done' is not known; it takes 'job.started'")
    assert detail.count(";") == 1


@pytest.mark.parametrize("method", ["POST", "PATCH"])
def test_an_update_changes_what_it_names_and_nothing_else(site: Gateway, method: str) -> None:
    made = registered(site)
    path = f"{site.url}/v1/webhook_endpoints/{made['id']}"
    changed = site.http.request(method, path, json={"event_types": ["job.failed"]}, timeout=30)
    assert changed.json()["event_types"] == ["job.failed"]
    assert (changed.json()["name"], changed.json()["url"]) == ("mine", URL)


def test_an_owner_disables_and_enables_an_endpoint(site: Gateway, fake_worker: FakeWorker) -> None:
    path = f"/v1/webhook_endpoints/{registered(site)['id']}"
    disabled = site.post(path, json={"enabled": False}).json()
    assert (disabled["status"], disabled["disabled_reason"]) == ("disabled", "by its owner")
    assert disabled["disabled_at"] > 0
    with fake_worker.db.begin() as connection:
        connection.exec_driver_sql("UPDATE webhook_endpoints SET failing_since = now()")
    enabled = site.post(path, json={"enabled": True}).json()
    facts = ("status", "disabled_reason", "disabled_at", "failing_since")
    assert [enabled[fact] for fact in facts] == ["enabled", None, None, None]


def test_a_change_has_its_time_and_no_change_has_none(
    site: Gateway, fake_worker: FakeWorker
) -> None:
    path = f"/v1/webhook_endpoints/{registered(site)['id']}"
    with fake_worker.db.begin() as connection:
        connection.exec_driver_sql("UPDATE webhook_endpoints SET updated_at = 'epoch'")
    assert site.post(path, json={"name": "mine", "url": URL}).json()["updated_at"] == 0
    assert site.post(path, json={"enabled": False}).json()["updated_at"] == 0
    assert site.post(path, json={"name": "other"}).json()["updated_at"] > 0


def test_pages_of_endpoints_follow_each_other(site: Gateway) -> None:
    made = [registered(site)["id"] for _ in range(3)]
    first = site.get("/v1/webhook_endpoints?limit=2").json()
    rest = site.get(f"/v1/webhook_endpoints?limit=2&after={first['last_id']}").json()
    assert [each["id"] for each in first["data"] + rest["data"]] == made[::-1]
    assert (first["has_more"], rest["has_more"]) == (True, False)
    oldest = site.get("/v1/webhook_endpoints?order=asc").json()
    assert [each["id"] for each in oldest["data"]] == made
    wrong = site.get("/v1/webhook_endpoints?after=we_1")
    assert (wrong.status_code, wrong.json()["param"]) == (422, "after")


def test_there_is_a_limit_to_how_many_an_owner_has(site: Gateway) -> None:
    first = registered(site)["id"]
    for _ in range(MAX_ENDPOINTS - 1):
        registered(site)
    refused = register(site)
    assert refused.status_code == 422
    assert str(MAX_ENDPOINTS) in refused.json()["detail"]
    site.http.delete(f"{site.url}/v1/webhook_endpoints/{first}", timeout=30)
    registered(site)


def asked(site: Gateway, endpoint: str, delivery: str) -> dict[str, tuple[int, Any]]:
    """Return the answers of every route that names an endpoint or a delivery."""
    answers = {}
    for method, path, body in (
        ("GET", f"webhook_endpoints/{endpoint}", None),
        ("POST", f"webhook_endpoints/{endpoint}", {"name": "stolen"}),
        ("PATCH", f"webhook_endpoints/{endpoint}", {"name": "stolen"}),
        ("DELETE", f"webhook_endpoints/{endpoint}", None),
        ("POST", f"webhook_endpoints/{endpoint}/rotate_secret", None),
        ("POST", f"webhook_endpoints/{endpoint}/test", None),
        ("GET", f"webhook_endpoints/{endpoint}/deliveries", None),
        ("POST", f"webhook_endpoints/{endpoint}/replay", {"since": "2026-01-01T00:00:00Z"}),
        ("GET", f"webhook_deliveries/{delivery}", None),
        ("POST", f"webhook_deliveries/{delivery}/replay", None),
    ):
        answer = site.http.request(method, f"{site.url}/v1/{path}", json=body, timeout=30)
        answers[f"{method} {path}".replace(endpoint, "E").replace(delivery, "D")] = (
            answer.status_code,
            answer.json().get("detail"),
        )
    return answers


def test_foreign_deleted_malformed_and_missing_ids_get_the_same_answer(
    site: Gateway, fake_worker: FakeWorker
) -> None:
    foreign = Endpoints(fake_worker.db).register(
        owner_id=new_id(), name="theirs", url=URL, event_types=EVENTS
    )
    with fake_worker.db.autocommit() as connection:
        owner = connection.exec_driver_sql("SELECT owner_id FROM webhook_endpoints").scalar_one()
    delivery = Log(fake_worker.db, first_try=timedelta(0)).add_test(
        foreign, "webhook.test", owner_id=owner
    )
    mine = registered(site)
    deleted = asked(site, mine["id"], f"delivery_{delivery.hex}")
    assert [status for status, _ in deleted.values()][:4] == [200, 200, 200, 200]

    missing = asked(site, f"we_{new_id().hex}", f"delivery_{new_id().hex}")
    assert {status for status, _ in missing.values()} == {404}
    assert asked(site, foreign.public_id, f"delivery_{delivery.hex}") == missing
    assert asked(site, mine["id"], f"delivery_{new_id().hex}") == missing
    assert asked(site, "we_1", "delivery_1") == missing
    assert Endpoints(fake_worker.db).get(foreign.id, owner_id=owner) == foreign


def test_the_default_secret_is_made_once_and_rotated(site: Gateway) -> None:
    first = site.get("/v1/webhook_secret")
    assert first.headers["cache-control"] == "no-store"
    assert site.get("/v1/webhook_secret").json() == first.json()
    rotated = site.post(
        "/v1/webhook_secret/rotate", json={"keep_old_secret_active_for_24_hours": True}
    ).json()
    assert rotated["key"] != first.json()["key"]
    assert 86_000 < rotated["previous_key_signs_until"] - rotated["updated_at"] <= 86_400
    assert site.get("/v1/webhook_secret").json() == rotated
    assert site.get("/v1/webhook_endpoints").json()["data"] == []
