"""A rotation gives a key's owner a new text, and ends the old text."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from shared.api_keys.key import ApiKey
from shared.errors import RotationUnderWay
from tests.support.gateway import Gateway, running_gateway
from tests.support.processes import crew, until
from tests.support.stack import Stack
from tests.support.tenants import EVENTS, Holder, KeyAdmin, key_admin_of, refusal

HOUR = timedelta(hours=1)


@pytest.fixture
def boss(key_admin: KeyAdmin, tenant_a: Gateway) -> Holder:
    return key_admin.holder(tenant_a, "boss", is_admin=True)[1]


def rotated(boss: Holder, key: ApiKey, **body: Any) -> Holder:
    """Rotate over HTTP and return the holder of the new text."""
    answer = boss.send("POST", f"/v1/keys/{key.public_id}/rotate", json=body or None)
    assert answer.status_code == 200, answer.text
    return Holder(boss.gateway, answer.json()["key"])


def end_overlap(key_admin: KeyAdmin, *gateways: Gateway) -> None:
    """Make the hour of the overlap pass by Postgres' clock."""
    with key_admin.db.begin() as connection:
        connection.execute(
            text("UPDATE api_keys SET previous_works_until = previous_works_until - interval '1h'")
        )
    for gateway in gateways:
        gateway.ports.key_cache.forget()


def enters(who: Holder) -> bool:
    return who.get(EVENTS).status_code == 200


def test_a_rotated_key_keeps_its_jobs_caps_and_prefix_and_the_old_text_ends(
    key_admin: KeyAdmin, tenant_a: Gateway, tenant_b: Gateway, boss: Holder
) -> None:
    key, old = key_admin.holder(tenant_a, "cms", max_queued=7, max_running=2)
    away = Holder(tenant_b, old.text)
    job = old.created()
    assert enters(away)
    answer = boss.send("POST", f"/v1/keys/{key.public_id}/rotate")
    assert refusal(old.get(EVENTS)) == (401, "invalid_api_key")
    assert answer.headers["Cache-Control"] == "no-store"
    shown = answer.json()
    new = Holder(tenant_a, shown["key"])
    assert [each["id"] for each in new.get("/v1/jobs").json()["data"]] == [job]
    assert (shown["id"], shown["name"], shown["prefix"]) == (key.public_id, "cms", key.prefix)
    assert (shown["max_queued"], shown["max_running"], shown["is_admin"]) == (7, 2, False)
    assert shown["rotated_at"] is not None
    assert shown["previous_works_until"] is None
    assert shown["key"] not in boss.get("/v1/keys").text
    assert enters(Holder(tenant_b, new.text))
    until(lambda: not enters(away), "every gateway knows")


def test_both_texts_work_until_the_overlap_ends_by_postgres_clock(
    key_admin: KeyAdmin, tenant_a: Gateway, tenant_b: Gateway, boss: Holder
) -> None:
    key, old = key_admin.holder(tenant_a, "cms")
    new = rotated(boss, key, overlap_hours=1)
    job = new.created()
    for gateway in (tenant_a, tenant_b):
        for given in (old.text, new.text):
            assert Holder(gateway, given).get(f"/v1/jobs/{job}").status_code == 200
    end_overlap(key_admin, tenant_a, tenant_b)
    for gateway in (tenant_a, tenant_b):
        assert refusal(Holder(gateway, old.text).get(EVENTS)) == (401, "invalid_api_key")
        assert enters(Holder(gateway, new.text))


def test_a_gateway_that_is_told_nothing_sees_the_overlap_end(
    key_admin: KeyAdmin, tenant_a: Gateway, boss: Holder
) -> None:
    key, old = key_admin.holder(tenant_a, "cms")
    new = rotated(boss, key, overlap_hours=1)
    assert enters(old)
    end_overlap(key_admin)
    until(lambda: not enters(old), "its keys are read again")
    assert enters(new)


def test_an_idempotency_key_gives_the_same_job_on_both_sides_of_a_rotation(
    key_admin: KeyAdmin, tenant_a: Gateway, boss: Holder
) -> None:
    key, old = key_admin.holder(tenant_a, "cms")
    headers = {"Idempotency-Key": "order-7"}
    first = old.create(headers=headers)
    new = rotated(boss, key, overlap_hours=1)
    again = [who.create(headers=headers) for who in (new, old)]
    assert [first.status_code, *(each.status_code for each in again)] == [202] * 3
    assert {each.json()["id"] for each in (first, *again)} == {first.json()["id"]}
    assert [each.headers["Idempotency-Replayed"] for each in again] == ["true"] * 2


def test_revoking_during_an_overlap_ends_both_texts(
    key_admin: KeyAdmin, tenant_a: Gateway, boss: Holder
) -> None:
    key, old = key_admin.holder(tenant_a, "cms")
    new = rotated(boss, key, overlap_hours=24)
    assert enters(old)
    assert enters(new)
    assert boss.send("DELETE", f"/v1/keys/{key.public_id}").status_code == 200
    assert not enters(old)
    assert not enters(new)
    assert refusal(boss.send("POST", f"/v1/keys/{key.public_id}/rotate")) == (409, "key_revoked")


def test_a_rotation_without_overlap_ends_what_an_earlier_one_left_working(
    key_admin: KeyAdmin, tenant_a: Gateway, boss: Holder
) -> None:
    key, first = key_admin.holder(tenant_a, "cms")
    second = rotated(boss, key, overlap_hours=1)
    path = f"/v1/keys/{key.public_id}/rotate"
    refused = boss.send("POST", path, json={"overlap_hours": 1})
    assert refusal(refused) == (409, "rotation_under_way")
    assert enters(first)
    assert enters(second)
    third = rotated(boss, key)
    assert [enters(who) for who in (first, second, third)] == [False, False, True]


def test_after_an_overlap_has_ended_the_next_may_begin(
    key_admin: KeyAdmin, tenant_a: Gateway, boss: Holder
) -> None:
    key, first = key_admin.holder(tenant_a, "cms")
    second = rotated(boss, key, overlap_hours=1)
    end_overlap(key_admin, tenant_a)
    third = rotated(boss, key, overlap_hours=1)
    assert [enters(who) for who in (first, second, third)] == [False, True, True]


def at_once(key_admin: KeyAdmin, key: ApiKey, overlap: timedelta) -> list[str | None]:
    """Rotate twice while the row is locked, so that both begin before either ends.

    Returns:
        The new texts, with None for a refused rotation.
    """

    def rotate() -> str | None:
        try:
            return key_admin.keys.rotate(key.id, overlap=overlap)[1]
        except RotationUnderWay:
            return None

    with ThreadPoolExecutor(2) as admins:
        with key_admin.db.begin() as connection:
            connection.execute(text("SELECT FROM api_keys FOR UPDATE"))
            sent = [admins.submit(rotate) for _ in range(2)]
            until(lambda: waiting(key_admin) == 2, "both wait for the row")
        return [each.result(timeout=60) for each in sent]


def waiting(key_admin: KeyAdmin) -> int:
    with key_admin.db.autocommit() as connection:
        return int(connection.execute(_WAITING).scalar_one())


_WAITING = text(
    "SELECT count(*) FROM pg_stat_activity"
    " WHERE datname = current_database() AND wait_event_type = 'Lock'"
)


def test_of_two_rotations_at_once_one_is_done_where_a_third_text_would_end_the_first(
    key_admin: KeyAdmin, tenant_a: Gateway
) -> None:
    key, old = key_admin.holder(tenant_a, "cms")
    drawn = at_once(key_admin, key, HOUR)
    tenant_a.ports.key_cache.forget()
    (given,) = [each for each in drawn if each is not None]
    assert enters(Holder(tenant_a, given))
    assert enters(old)


def test_of_two_rotations_at_once_without_an_overlap_the_last_ones_text_works_alone(
    key_admin: KeyAdmin, tenant_a: Gateway
) -> None:
    key, old = key_admin.holder(tenant_a, "cms")
    drawn = at_once(key_admin, key, timedelta())
    tenant_a.ports.key_cache.forget()
    assert sorted(enters(Holder(tenant_a, given)) for given in drawn) == [False, True]
    assert not enters(old)


@pytest.mark.parametrize(
    "body",
    [{"overlap_hours": 24.1}, {"overlap_hours": -1}, {"overlap_hours": "NaN"}, {"overlap": 1}],
)
def test_an_overlap_that_is_none_is_refused_and_changes_nothing(
    key_admin: KeyAdmin, tenant_a: Gateway, boss: Holder, body: dict[str, Any]
) -> None:
    key, cms = key_admin.holder(tenant_a, "cms")
    answer = boss.send("POST", f"/v1/keys/{key.public_id}/rotate", json=body)
    assert answer.status_code == 422
    assert enters(cms)
    assert refusal(boss.send("POST", f"/v1/keys/key_{'0' * 32}/rotate")) == (404, "not_found")


def test_both_texts_share_the_keys_one_rate(module_stack: Stack, key_admin: KeyAdmin) -> None:
    with running_gateway(module_stack.settings(rate_limit="4/hour")) as gateway:
        key, old = key_admin.holder(gateway, "cms")
        new = key_admin.rotate(gateway, key, overlap=HOUR)
        assert [who.get(EVENTS).status_code for who in (old, new, old, new)] == [200] * 4
        assert old.get(EVENTS).status_code == new.get(EVENTS).status_code == 429


def test_an_admin_may_rotate_the_key_it_asks_with(key_admin: KeyAdmin, tenant_a: Gateway) -> None:
    key, boss = key_admin.holder(tenant_a, "boss", is_admin=True)
    job = boss.created()
    new = rotated(boss, key)
    assert not enters(boss)
    assert new.get(f"/v1/jobs/{job}").status_code == 200


@pytest.fixture
def alone(stack: Stack) -> Iterator[KeyAdmin]:
    """A key administrator on a stack that no other test uses."""
    with key_admin_of(stack.settings()) as locksmith:
        yield locksmith


def test_the_keeper_forgets_the_hash_of_a_text_that_has_ceased_to_work(
    stack: Stack, tmp_path: Path, alone: KeyAdmin
) -> None:
    ended, _ = alone.keys.create("ended")
    going_on, _ = alone.keys.create("going-on")
    alone.keys.rotate(ended.id, overlap=HOUR)
    end_overlap(alone)
    alone.keys.rotate(going_on.id, overlap=HOUR)

    def kept() -> dict[str, bool]:
        with alone.db.autocommit() as connection:
            found = connection.execute(text("SELECT name, previous_sha256 FROM api_keys"))
            return {name: digest is not None for name, digest in found}

    assert kept() == {"ended": True, "going-on": True}
    with crew(stack, tmp_path) as people:
        people.keeper()
        until(lambda: not kept()["ended"], "the keeper has looked")
    assert kept() == {"ended": False, "going-on": True}
