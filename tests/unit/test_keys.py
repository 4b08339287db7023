"""What a key is made of, and which texts are keys."""

import re
from datetime import UTC, datetime
from uuid import uuid4

import pytest

from shared.api_keys.key import ApiKey, ApiKeySet, Match, hashed
from shared.api_keys.store import parse_key_id
from shared.errors import NotFound
from shared.owners import ANONYMOUS

PREFIX = "sr_abcdefGHIJ12"
GIVEN = f"{PREFIX}_{'s' * 43}"
OLD = f"{PREFIX}_{'o' * 43}"


def key(*, is_admin: bool = False) -> ApiKey:
    return ApiKey(
        id=uuid4(),
        name="cms",
        prefix=PREFIX,
        is_admin=is_admin,
        max_queued=None,
        max_running=None,
        is_read_only=False,
        models=None,
        daily_seconds=None,
        daily_usd=None,
        created_at=datetime.now(UTC),
        last_used_at=None,
        rotated_at=None,
        previous_works_until=None,
        revoked_at=None,
    )


def test_the_whole_text_finds_the_key() -> None:
    held = key()
    assert ApiKeySet([(held, hashed(GIVEN), None)]).match(GIVEN) == Match(held)


def test_the_text_before_a_rotation_finds_the_key_too_while_its_hash_is_held() -> None:
    held = key()
    ring = ApiKeySet([(held, hashed(GIVEN), hashed(OLD))])
    assert ring.match(OLD) == Match(held, is_old=True)
    assert ring.match(GIVEN) == Match(held)
    assert ApiKeySet([(held, hashed(GIVEN), None)]).match(OLD) is None


@pytest.mark.parametrize(
    "given",
    [
        *("", PREFIX, f"{PREFIX}_", GIVEN[:-1], f"{GIVEN}s", GIVEN.upper(), f" {GIVEN}"),
        *(f"{PREFIX}_{'t' * 43}", GIVEN.replace("sr_", "sk_"), GIVEN.replace("a", "b", 1)),
        *(f"{GIVEN}\n", hashed(GIVEN), "\x00", "é" * 60, "s" * 100_000),
    ],
)
def test_no_other_text_finds_it(given: str) -> None:
    assert ApiKeySet([(key(), hashed(GIVEN), hashed(OLD))]).match(given) is None


def test_every_text_is_compared_as_often_as_any_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    compared: list[str] = []

    def compare(one: str, other: str) -> bool:
        compared.append(one)
        return one == other

    monkeypatch.setattr("shared.api_keys.key.hmac.compare_digest", compare)
    ring = ApiKeySet([(key(), hashed(GIVEN), None)])
    for given in (GIVEN, OLD, GIVEN.replace("a", "b"), "garbage"):
        compared.clear()
        ring.match(given)
        assert compared == [hashed(given)] * 2


def test_every_admin_works_with_the_houses_jobs_and_others_with_their_own() -> None:
    held = key()
    assert held.owner_id == held.id
    assert key(is_admin=True).owner_id == ANONYMOUS


@pytest.mark.parametrize("name", ["", "key_", "cms", f"key_{'g' * 32}", f"job_{'0' * 32}"])
def test_what_is_no_id_of_a_key_names_none(name: str) -> None:
    with pytest.raises(NotFound, match=re.escape("no such key")):
        parse_key_id(name)
