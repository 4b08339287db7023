"""Keys sent while none exists: clients of other services always send one, even if it is `none`."""

import logging
import time
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from tests.support.gateway import (
    ADMIN_KEY,
    FakeWorker,
    Gateway,
    photo_png,
    running_gateway,
    without_database,
)
from tests.support.stack import Stack
from tests.support.tenants import Holder, KeyAdmin, refusal

HEADER = "Stillreel-Key"
FORM: dict[str, Any] = {"files": {"image": ("a.png", photo_png())}}
PLACEHOLDERS = ("none", "sk-proj-1234", "r8_" + "x" * 37, f"sr_{'a' * 12}_{'b' * 43}", "x" * 9_000)


def sending(gateway: Gateway, key: str = "none", **headers: str) -> requests.Response:
    """POST a photo with a key."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return gateway.post("/v1/jobs", headers={"Authorization": f"Bearer {key}", **named}, **FORM)


@pytest.mark.parametrize("key", PLACEHOLDERS)
def test_it_is_answered_as_if_none_had_been_sent_and_is_told_so(
    tenant_a: Gateway, fake_worker: FakeWorker, caplog: pytest.LogCaptureFixture, key: str
) -> None:
    caplog.set_level(logging.INFO)
    made = sending(tenant_a, key)
    assert made.status_code == 202
    assert made.headers[HEADER].startswith("ignored")
    plain = tenant_a.get(f"/v1/jobs/{made.json()['id']}")
    # The job belongs to nobody, as if no key had been sent.
    assert plain.status_code == 200
    assert HEADER not in plain.headers
    said = [each.getMessage() for each in caplog.records]
    assert len([line for line in said if "unknown_key_ignored" in line]) == 1
    assert key == "none" or not [line for line in said if key in line]


@pytest.mark.parametrize("path", ["/v1/keys", "/v1/keys/", "/v1/admin/workers", "/v1/admin/no"])
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_it_opens_nothing_that_is_for_admins(tenant_a: Gateway, method: str, path: str) -> None:
    answer = Holder(tenant_a, "none").send(method, path, json={"name": "mine"})
    assert refusal(answer) == (401, "invalid_api_key")
    assert HEADER not in answer.headers


@pytest.mark.parametrize(
    "headers",
    [
        *({"X_Forwarded_For": "127.0.0.1"}, {"Via": "1.1 proxy"}, {"Host": "rebind.example"}),
        *({"Origin": "https://evil.example"}, {"Origin": "null"}, {"Origin": ""}),
        *({"Sec_Fetch_Site": "cross-site"}, {"Sec_Fetch_Site": "Same-Origin"}),
    ],
)
def test_it_is_refused_where_nobody_is_anonymous(
    tenant_a: Gateway, headers: dict[str, str]
) -> None:
    answer = sending(tenant_a, **headers)
    assert refusal(answer) == (401, "invalid_api_key")
    assert "there is no such API key, and without one: " in answer.json()["detail"]
    assert HEADER not in answer.headers
    assert tenant_a.get("/v1/jobs").json()["data"] == []


def test_the_first_key_ends_it_on_every_gateway_at_once(
    key_admin: KeyAdmin, tenant_a: Gateway, tenant_b: Gateway
) -> None:
    for each in (tenant_a, tenant_b):
        assert sending(each).status_code == 202
    # Like the command, this tells no gateway.
    _, given = key_admin.keys.create("first")
    used = sending(tenant_b, given)
    assert used.status_code == 202
    assert HEADER not in used.headers
    job = used.json()["id"]
    for each in (tenant_a, tenant_b):
        assert refusal(sending(each)) == (401, "invalid_api_key")
        holder = Holder(each, given)
        assert holder.get(f"/v1/jobs/{job}").status_code == 200
        assert [found["id"] for found in holder.get("/v1/jobs").json()["data"]] == [job]


def test_a_job_made_with_a_key_that_is_a_moment_old_is_never_nobodys(
    key_admin: KeyAdmin, tenant_b: Gateway
) -> None:
    # The gateway reads now that no key exists.
    sending(tenant_b)
    for number in range(5):
        _, given = key_admin.keys.create(f"new-{number}")
        made = sending(tenant_b, given)
        assert made.status_code == 202
        assert Holder(tenant_b, given).get(f"/v1/jobs/{made.json()['id']}").status_code == 200


@pytest.mark.parametrize("is_last", [True, False])
def test_a_revoked_key_is_refused_for_ever(
    key_admin: KeyAdmin, tenant_a: Gateway, tenant_b: Gateway, is_last: bool
) -> None:
    key, holder = key_admin.holder(tenant_a, "gone")
    if not is_last:
        key_admin.holder(tenant_a, "stays")
    key_admin.keys.revoke(key.id)
    # Until then a gateway may use what it has read.
    time.sleep(1.1)
    for each in (tenant_a, tenant_b):
        assert refusal(sending(each, str(holder.text))) == (401, "invalid_api_key")
        assert refusal(sending(each)) == (401, "invalid_api_key")


@pytest.fixture
def with_admin_key(module_stack: Stack, key_admin: KeyAdmin) -> Iterator[Gateway]:
    with running_gateway(module_stack.settings(admin_key=ADMIN_KEY)) as gateway:
        gateway.http.headers.pop("Authorization")
        yield gateway


def test_the_admin_key_of_the_settings_ends_it_too(with_admin_key: Gateway) -> None:
    assert refusal(sending(with_admin_key)) == (401, "invalid_api_key")


def test_while_the_keys_cannot_be_read_it_is_not_known(module_stack: Stack) -> None:
    with running_gateway(without_database(module_stack)) as gateway:
        assert refusal(sending(gateway)) == (503, "database_unavailable")
