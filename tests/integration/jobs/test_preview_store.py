"""Redis keeps previews for minutes; if it fails, only the previews are lost."""

from collections.abc import Iterator

import pytest
import redis

from shared.bell import client
from shared.ids import new_id
from shared.jobs.preview_store import LIVES, MOST_BYTES, PreviewStore
from tests.support.stack import Stack

IMAGE = b"RIFF\0\0\0\0WEBPVP8 and the rest"
JOB = new_id()


@pytest.fixture
def url(stack: Stack) -> str:
    return stack.settings().redis_url.get_secret_value()


@pytest.fixture
def store(url: str) -> Iterator[PreviewStore]:
    store = PreviewStore(url, socket_seconds=20)
    yield store
    store.close()


@pytest.fixture
def raw(url: str) -> Iterator[redis.Redis]:
    connection = client(url, socket_seconds=20)
    yield connection
    connection.close()


def name(raw: redis.Redis) -> bytes:
    (found,) = raw.keys("stillreel:preview:*")
    assert isinstance(found, bytes)
    return found


def test_the_newest_image_of_an_attempt_is_kept_for_minutes(
    store: PreviewStore, raw: redis.Redis
) -> None:
    assert store.put(JOB, 1, IMAGE)
    assert store.put(JOB, 1, IMAGE + b"2")

    assert store.get(JOB, 1) == IMAGE + b"2"
    assert 0 < int(raw.ttl(name(raw))) <= LIVES.total_seconds()


def test_an_attempt_that_lost_its_job_shows_nothing_to_the_next(store: PreviewStore) -> None:
    store.put(JOB, 1, IMAGE)

    assert store.get(JOB, 2) is None
    assert store.get(new_id(), 1) is None


def test_what_was_dropped_is_gone(store: PreviewStore, raw: redis.Redis) -> None:
    store.put(JOB, 1, IMAGE)
    store.drop(JOB, 1)

    assert store.get(JOB, 1) is None
    assert raw.keys("stillreel:preview:*") == []


@pytest.mark.parametrize(
    "planted", [b"<script>alert(1)</script>", b"", IMAGE + bytes(MOST_BYTES), b"RIFF"]
)
def test_what_is_no_small_image_is_shown_to_nobody(
    store: PreviewStore, raw: redis.Redis, planted: bytes
) -> None:
    store.put(JOB, 1, IMAGE)
    raw.set(name(raw), planted)

    assert store.get(JOB, 1) is None


def test_a_list_in_its_place_is_no_image_and_makes_way(
    store: PreviewStore, raw: redis.Redis
) -> None:
    store.put(JOB, 1, IMAGE)
    key = name(raw)
    raw.delete(key)
    raw.lpush(key, b"1")

    assert store.get(JOB, 1) is None
    assert store.put(JOB, 1, IMAGE)
    assert store.get(JOB, 1) == IMAGE


def test_an_image_that_is_too_large_is_not_kept(store: PreviewStore) -> None:
    assert not store.put(JOB, 1, IMAGE + bytes(MOST_BYTES))
    assert store.get(JOB, 1) is None


def test_without_redis_nothing_is_kept_and_nothing_raised() -> None:
    store = PreviewStore("redis://127.0.0.1:9")

    assert not store.put(JOB, 1, IMAGE)
    assert store.get(JOB, 1) is None
    store.drop(JOB, 1)
    store.close()
