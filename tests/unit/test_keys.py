"""What a key is made of, and which text is one."""

import re
from datetime import UTC, datetime
from uuid import uuid4

import pytest

from shared.errors import NotFound
from shared.keys import ApiKey, Keyring, hashed, parse_key_id
from shared.tables import ANONYMOUS

PREFIX = "sr_abcdefGHIJ12"
GIVEN = f"{PREFIX}_{'s' * 43}"


def key(*, is_admin: bool = False) -> ApiKey:
    return ApiKey(
        id=uuid4(),
        name="cms",
        prefix=PREFIX,
        is_admin=is_admin,
        max_queued=None,
        max_running=None,
        created_at=datetime.now(UTC),
        last_used_at=None,
        revoked_at=None,
    )


def test_the_whole_text_finds_the_key() -> None:
    held = key()
    assert Keyring([(held, hashed(GIVEN))]).find(GIVEN) is held


@pytest.mark.parametrize(
    "given",
    [
        *("", PREFIX, f"{PREFIX}_", GIVEN[:-1], f"{GIVEN}s", GIVEN.upper(), f" {GIVEN}"),
        *(f"{PREFIX}_{'t' * 43}", GIVEN.replace("sr_", "sk_"), GIVEN.replace("a", "b", 1)),
        *(f"{GIVEN}\n", hashed(GIVEN), "\x00", "é" * 60, "s" * 100_000),
    ],
)
def test_no_other_text_finds_it(given: str) -> None:
    assert Keyring([(key(), hashed(GIVEN))]).find(given) is None


def test_a_text_without_a_key_of_its_prefix_is_compared_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    compared: list[str] = []

    def compare(one: str, other: str) -> bool:
        compared.append(one)
        return False

    monkeypatch.setattr("shared.keys.hmac.compare_digest", compare)
    Keyring([]).find(GIVEN)
    Keyring([]).find("garbage")
    assert compared == [hashed(GIVEN), hashed("garbage")]


def test_every_admin_works_with_the_houses_jobs_and_others_with_their_own() -> None:
    held = key()
    assert held.owner_id == held.id
    assert key(is_admin=True).owner_id == ANONYMOUS


@pytest.mark.parametrize("name", ["", "key_", "cms", f"key_{'g' * 32}", f"job_{'0' * 32}"])
def test_what_is_no_id_of_a_key_names_none(name: str) -> None:
    with pytest.raises(NotFound, match=re.escape("no such key")):
        parse_key_id(name)
