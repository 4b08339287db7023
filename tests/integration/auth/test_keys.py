"""API keys as holders and admins use them, on gateways that share one database."""

import contextlib
import logging
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import text

from api.auth.key_cache import FRESH_SECONDS
from api.limits import SHIPPED
from api.ports import CONNECTIONS
from shared.errors import OutOfMemory
from tests.support.gateway import ADMIN_KEY, FakeWorker, Gateway, running_gateway, without_database
from tests.support.processes import until
from tests.support.stack import Stack
from tests.support.tenants import EVENTS, Holder, KeyAdmin, key_admin_of, refusal

SOON_SECONDS = 2.0
"""The seconds after which every gateway knows that a key was revoked."""

UNSERVED = frozenset({"urllib3.connectionpool", "uvicorn.access"})
"""Loggers that do not count: this test's own client, and lines that the server turns off."""

DEADLINE_SECONDS = 50.0
"""Ten times the seconds that a refusal may take, because the machine may be busy."""


@pytest.fixture
def admin(module_stack: Stack, key_admin: KeyAdmin) -> Iterator[Holder]:
    """The holder of ADMIN_KEY, on a gateway that knows this key."""
    with running_gateway(module_stack.settings(admin_key=ADMIN_KEY)) as gateway:
        yield Holder(gateway, ADMIN_KEY)


def test_two_keys_have_nothing_in_common(key_admin: KeyAdmin, tenant_a: Gateway) -> None:
    _, one = key_admin.holder(tenant_a, "one")
    _, other = key_admin.holder(tenant_a, "other")
    assert one.text is not None
    assert other.text is not None
    assert not set(one.text.split("_")[1:]) & set(other.text.split("_")[1:])


def test_the_first_key_ends_anonymity_and_revoking_it_does_not_bring_it_back(
    key_admin: KeyAdmin, tenant_a: Gateway
) -> None:
    assert tenant_a.get(EVENTS).status_code == 200
    key, cms = key_admin.holder(tenant_a, "cms")
    answer = tenant_a.get(EVENTS)
    assert refusal(answer) == (401, "missing_api_key")
    assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert cms.get(EVENTS).status_code == 200
    key_admin.revoke(tenant_a, key)
    assert refusal(cms.get(EVENTS)) == (401, "invalid_api_key")
    assert refusal(tenant_a.get(EVENTS)) == (401, "missing_api_key")


@pytest.mark.parametrize(
    "header",
    [
        *("", "Bearer", "Bearer ", "Basic dTpw", "Token abc", "Key abc", "sr_abc", "bearer a b"),
        *("Bearer", "BearerX sk-1", "Bearer\tsk-1", "Bearer sk-1, Bearer sk-2", ": Bearer x"),
    ],
)
def test_a_header_that_is_no_key_is_refused_where_none_at_all_would_do(
    tenant_a: Gateway, header: str
) -> None:
    assert tenant_a.get(EVENTS).status_code == 200
    answer = tenant_a.get(EVENTS, headers={"Authorization": header})
    assert refusal(answer) == (401, "invalid_api_key")
    assert answer.headers["WWW-Authenticate"] == "Bearer"


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER", "Bearer  "])
def test_the_scheme_is_read_as_its_rfc_says(
    key_admin: KeyAdmin, tenant_a: Gateway, scheme: str
) -> None:
    _, cms = key_admin.holder(tenant_a, "cms")
    headers = {"Authorization": f"{scheme} {cms.text}"}
    assert tenant_a.get(EVENTS, headers=headers).status_code == 200


def test_a_revoked_key_is_out_at_once_here_and_soon_everywhere(
    key_admin: KeyAdmin, tenant_a: Gateway, tenant_b: Gateway
) -> None:
    key, cms = key_admin.holder(tenant_a, "cms")
    _, boss = key_admin.holder(tenant_a, "boss", is_admin=True)
    away = Holder(tenant_b, cms.text)
    assert away.get(EVENTS).status_code == 200
    revoked = boss.send("DELETE", f"/v1/keys/{key.public_id}")
    revoked_at = time.monotonic()
    assert revoked.status_code == 200
    assert refusal(cms.get(EVENTS)) == (401, "invalid_api_key")
    until(lambda: away.get(EVENTS).status_code == 401, "it is out", within=DEADLINE_SECONDS)
    assert time.monotonic() - revoked_at < DEADLINE_SECONDS
    assert FRESH_SECONDS < SOON_SECONDS


def test_a_key_made_beside_a_busy_gateway_works_with_its_first_request(
    key_admin: KeyAdmin, tenant_a: Gateway
) -> None:
    key_admin.holder(tenant_a, "old")
    for number in range(5):
        # The gateway reads all keys that exist now.
        tenant_a.get(EVENTS)
        _, given = key_admin.keys.create(f"new-{number}")
        assert Holder(tenant_a, given).get(EVENTS).status_code == 200


def test_the_admin_key_of_the_settings_needs_no_row_and_ends_anonymity(
    admin: Holder, key_admin: KeyAdmin
) -> None:
    assert key_admin.keys.all() == []
    assert admin.get("/v1/keys").json()["data"] == []
    wrong = Holder(admin.gateway, ADMIN_KEY[:-1])
    assert refusal(wrong.get(EVENTS)) == (401, "invalid_api_key")
    assert refusal(Holder(admin.gateway, None).get(EVENTS)) == (401, "missing_api_key")


def test_what_was_made_anonymously_is_every_admins_and_nobody_elses(
    key_admin: KeyAdmin, tenant_a: Gateway, admin: Holder
) -> None:
    job = tenant_a.created()["id"]
    _, boss = key_admin.holder(tenant_a, "boss", is_admin=True)
    _, cms = key_admin.holder(tenant_a, "cms")
    assert boss.get(f"/v1/jobs/{job}").status_code == 200
    assert admin.get(f"/v1/jobs/{job}").status_code == 200
    assert cms.get(f"/v1/jobs/{job}").status_code == 404
    theirs = cms.created()
    assert boss.get(f"/v1/jobs/{theirs}").status_code == 404


def test_admins_make_list_and_revoke_keys_over_http(
    admin: Holder, key_admin: KeyAdmin, tenant_a: Gateway
) -> None:
    body = {"name": "cms", "max_queued": 5, "max_running": 1}
    made = admin.send("POST", "/v1/keys", json=body)
    assert made.status_code == 201
    assert made.headers["Cache-Control"] == "no-store"
    key = made.json()
    assert key["key"].startswith(key["prefix"])
    assert (key["object"], key["max_queued"], key["max_running"]) == ("api_key", 5, 1)
    assert Holder(admin.gateway, key["key"]).get(EVENTS).status_code == 200
    again = admin.send("POST", "/v1/keys", json=body)
    assert refusal(again) == (409, "key_name_taken")
    for wrong in ({"name": "a b"}, {"name": "x", "max_queued": 0}, {"name": "x", "owner": "y"}):
        assert admin.send("POST", "/v1/keys", json=wrong).status_code == 422
    listed = admin.get("/v1/keys").json()["data"]
    assert [each["id"] for each in listed] == [key["id"]]
    assert key["key"] not in str(listed)
    for _ in range(2):  # The second revocation changes nothing.
        revoked = admin.send("DELETE", f"/v1/keys/{key['id']}").json()
        assert revoked["revoked_at"] is not None
    assert revoked["revoked_at"] == admin.get("/v1/keys").json()["data"][0]["revoked_at"]
    missing = admin.send("DELETE", f"/v1/keys/key_{'0' * 32}")
    assert refusal(missing) == (404, "not_found")


def test_admins_see_workers_failures_and_storage_of_the_whole_house(
    key_admin: KeyAdmin, tenant_a: Gateway, fake_worker: FakeWorker
) -> None:
    _, cms = key_admin.holder(tenant_a, "cms")
    _, boss = key_admin.holder(tenant_a, "boss", is_admin=True)
    good, bad, running = cms.created(), cms.created(), cms.created()
    fake_worker.complete(fake_worker.claim(), b"twelve bytes")
    fake_worker.fail(fake_worker.claim(), OutOfMemory("too large"))
    fake_worker.claim()
    (worker,) = boss.get("/v1/admin/workers").json()["data"]
    assert (worker["name"], worker["is_alive"], worker["running"]) == ("hand", True, [running])
    (failure,) = boss.get("/v1/admin/failures").json()["data"]
    assert (failure["job_id"], failure["owner"]) == (bad, "cms")
    assert (failure["code"], failure["worker"]) == ("gpu_out_of_memory", "hand")
    assert boss.get("/v1/admin/failures?limit=101").status_code == 422
    stored = boss.get("/v1/admin/storage").json()
    assert stored["bytes"] == len(b"twelve bytes")
    assert [(each["owner"], each["jobs"]) for each in stored["data"]] == [("cms", 1)]
    assert cms.send("DELETE", f"/v1/jobs/{good}").status_code == 204
    assert boss.get("/v1/admin/storage").json()["bytes"] == 0


def test_the_use_of_a_key_is_noted_once_a_minute(key_admin: KeyAdmin, tenant_a: Gateway) -> None:
    key, cms = key_admin.holder(tenant_a, "cms")

    def used_at() -> Any:
        return key_admin.keys.all()[0].last_used_at

    assert used_at() is None
    cms.get(EVENTS)
    first = until(used_at, "the use is noted", within=DEADLINE_SECONDS)
    key_admin.keys.note_use(key.id)
    assert used_at() == first
    with key_admin.db.begin() as connection:
        connection.execute(
            text("UPDATE api_keys SET last_used_at = last_used_at - interval '61 seconds'")
        )
    key_admin.keys.note_use(key.id)
    assert used_at() > first


@pytest.mark.parametrize(
    "who",
    ["holder", *(pytest.param(who, marks=pytest.mark.extended) for who in ("stranger", "nobody"))],
)
def test_a_frozen_postgres_lets_nobody_in_and_keeps_nobody_waiting(stack: Stack, who: str) -> None:
    with (
        running_gateway(stack.settings(rate_limit="none"), SHIPPED) as gateway,
        key_admin_of(stack.settings()) as locksmith,
        ThreadPoolExecutor(40) as clients,
    ):
        _, cms = locksmith.holder(gateway, "cms")
        caller = {
            "holder": cms,
            "stranger": Holder(gateway, f"sr_{'a' * 12}_{'b' * 43}"),
            "nobody": Holder(gateway, None),
        }[who]
        usual = caller.get(EVENTS).status_code
        assert usual == (200 if who == "holder" else 401)
        stack.postgres.freeze()
        until(lambda: caller.get(EVENTS).status_code == 503, "it is unknown who asks", within=60)
        began = time.monotonic()
        sent = [clients.submit(caller.get, EVENTS) for _ in range(40)]
        assert gateway.get("/livez").elapsed.total_seconds() < DEADLINE_SECONDS
        for each in sent:
            answer = each.result(timeout=DEADLINE_SECONDS)
            assert refusal(answer) == (503, "database_unavailable")
            assert int(answer.headers["Retry-After"]) > 0
        assert time.monotonic() - began < DEADLINE_SECONDS
        stack.postgres.thaw()
        until(lambda: caller.get(EVENTS).status_code == usual, "it is known again", within=60)


def test_without_postgres_nobody_is_anonymous(module_stack: Stack) -> None:
    with running_gateway(without_database(module_stack)) as gateway:
        assert refusal(gateway.get(EVENTS)) == (503, "database_unavailable")


def test_slow_requests_that_hold_every_connection_do_not_lock_the_door(
    key_admin: KeyAdmin, tenant_a: Gateway
) -> None:
    _, cms = key_admin.holder(tenant_a, "cms")
    with contextlib.ExitStack() as held:
        for _ in range(CONNECTIONS):
            held.enter_context(tenant_a.ports.db.begin())
        assert cms.get(EVENTS).status_code == 200
        assert refusal(Holder(tenant_a, None).get(EVENTS)) == (401, "missing_api_key")


def test_a_key_is_taken_from_anywhere(key_admin: KeyAdmin, tenant_a: Gateway) -> None:
    _, cms = key_admin.holder(tenant_a, "cms")
    anywhere = {
        "Host": "video.example.org",
        "X-Forwarded-For": "203.0.113.9",
        "Origin": "https://cms.example",
        "Sec-Fetch-Site": "cross-site",
    }
    assert cms.get("/v1/jobs", headers=anywhere).status_code == 200


def test_no_log_line_holds_a_key(
    key_admin: KeyAdmin, tenant_a: Gateway, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    _, boss = key_admin.holder(tenant_a, "boss", is_admin=True)
    made = boss.send("POST", "/v1/keys", json={"name": "cms"}).json()
    cms = Holder(tenant_a, made["key"])
    cms.created()
    cms.get(f"/v1/jobs/{cms.text}")
    Holder(tenant_a, made["key"][:-1]).get("/v1/jobs")
    path, overlap = f"/v1/keys/{made['id']}/rotate", {"overlap_hours": 1}
    rotated = boss.send("POST", path, json=overlap).json()["key"]
    Holder(tenant_a, rotated).get("/v1/jobs")
    cms.get("/v1/jobs")
    boss.send("DELETE", f"/v1/keys/{made['id']}")
    cms.get("/v1/jobs")
    said = "\n".join(each.getMessage() for each in caplog.records if each.name not in UNSERVED)
    assert made["prefix"] in said  # The log names the caller by the key's public part.
    assert "old_api_key_used" in said
    for given in (made["key"], rotated, str(boss.text)):
        assert given.rsplit("_", 1)[1][:-1] not in said
