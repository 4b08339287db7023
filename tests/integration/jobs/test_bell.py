"""The bell: how it reaches a worker, and that no content of Redis can end a listener."""

import asyncio
import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import pytest
from redis import Redis

from api.concurrency.job_waiters import JobWatcher
from shared.bell import CHANNEL, MOST_BELLS, Bell, client, queue_name, read_change, take_bell
from shared.ids import new_id
from shared.jobs.news import JobNews
from shared.jobs.queries import JobQueries
from tests.support.factory import JobFixture
from tests.support.processes import until
from tests.support.stack import Stack
from worker.bells import Listener
from worker.supervisor.heartbeat_file import HeartbeatFile

ENGINE = "scripted"
ONCE = timedelta(seconds=20)


@pytest.fixture
def url(module_stack: Stack) -> str:
    url = module_stack.settings().redis_url.get_secret_value()
    with Redis.from_url(url) as valkey:
        valkey.flushdb()
    return url


@pytest.fixture
def valkey(url: str) -> Iterator[Redis]:
    with Redis.from_url(url) as valkey:
        yield valkey


@pytest.fixture
def bell(url: str) -> Iterator[Bell]:
    """A bell that waits for a stalled machine; the shipped bell soon goes silent."""
    with contextlib.closing(Bell(url, socket_seconds=20)) as bell:
        yield bell


@pytest.fixture
def slot(tmp_path: Path) -> Iterator[HeartbeatFile]:
    with contextlib.closing(HeartbeatFile.create(tmp_path / "slot")) as slot:
        yield slot


@pytest.fixture
def listener(url: str, slot: HeartbeatFile) -> Iterator[Listener]:
    listener = Listener(url, [ENGINE, "camera"], slot)
    yield listener
    listener.stop()


def rest(slot: HeartbeatFile) -> None:
    slot.is_idle = True


def waiting(valkey: Redis) -> int:
    return int(valkey.llen(queue_name(ENGINE)))


def heard(slot: HeartbeatFile) -> None:
    until(lambda: not slot.is_idle, "the worker is woken")


def test_bells_wait_in_redis_while_the_worker_renders(
    valkey: Redis, bell: Bell, slot: HeartbeatFile, listener: Listener
) -> None:
    """If a busy worker took a bell, no other worker would answer it."""
    rest(slot)
    bell.ring(ENGINE)
    heard(slot)
    bell.ring(ENGINE)
    bell.ring(ENGINE)
    until(lambda: waiting(valkey) == 2, "both bells wait")
    listener._stopped.wait(0.5)
    assert waiting(valkey) == 2
    rest(slot)
    until(lambda: waiting(valkey) == 1, "an idle worker takes the next")


def test_a_bell_taken_by_a_worker_that_began_to_render_meanwhile_is_rung_again(
    valkey: Redis,
    bell: Bell,
    slot: HeartbeatFile,
    listener: Listener,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answers = iter([True, False])
    monkeypatch.setattr(HeartbeatFile, "is_idle", property(lambda self: next(answers, False)))
    bell.ring(ENGINE)
    until(lambda: next(answers, None) is None, "the listener took it, and saw a busy worker")
    until(lambda: waiting(valkey) == 1, "it is there for another")


def test_no_more_bells_are_kept_than_workers_could_answer(valkey: Redis, bell: Bell) -> None:
    for _ in range(MOST_BELLS + 20):
        bell.ring(ENGINE)
    bell.ring("other")
    until(lambda: valkey.llen(queue_name("other")), "all have been rung")
    assert waiting(valkey) == MOST_BELLS


def test_a_bell_overtakes_what_is_announced(url: str, valkey: Redis) -> None:
    bell_of_patience = contextlib.closing(Bell(url, socket_seconds=20))
    with bell_of_patience as bell, valkey.monitor() as seen:
        # The first announcement is delayed, so that all others are together in the queue.
        valkey.client_pause(20_000, all=False)
        for version in (1, 2, 3):
            bell.publish_change(new_id(), version, new_id())
        bell.ring(ENGINE)
        valkey.client_unpause()
        heard: list[str] = []
        while len(heard) < 4:
            command = seen.next_command()["command"].split()
            if command[0] in {"LPUSH", "PUBLISH"} and command[1] in {CHANNEL, queue_name(ENGINE)}:
                heard.append(command[0])
    assert heard.index("LPUSH") < 2


WRONG_TYPES: dict[str, Callable[[Redis, str], object]] = {
    "a string": lambda valkey, key: valkey.set(key, b"\xff\x00 not a list"),
    "a hash": lambda valkey, key: valkey.hset(key, "a", "b"),
    "a set": lambda valkey, key: valkey.sadd(key, "a"),
    "a sorted set": lambda valkey, key: valkey.zadd(key, {"a": 1}),
    "a stream": lambda valkey, key: valkey.xadd(key, {"a": "b"}),
}


@pytest.mark.parametrize("kind", WRONG_TYPES)
def test_what_is_no_list_is_removed_by_whoever_rings(valkey: Redis, bell: Bell, kind: str) -> None:
    WRONG_TYPES[kind](valkey, queue_name(ENGINE))
    bell.ring(ENGINE)
    until(lambda: valkey.type(queue_name(ENGINE)) == b"list", "the bell is there")


@pytest.mark.parametrize("kind", WRONG_TYPES)
def test_what_is_no_list_is_removed_by_whoever_listens(valkey: Redis, url: str, kind: str) -> None:
    WRONG_TYPES[kind](valkey, queue_name(ENGINE))
    with contextlib.closing(client(url, socket_seconds=20)) as connection:
        assert take_bell(connection, [ENGINE, "camera"], wait=ONCE) is None
        assert valkey.exists(queue_name(ENGINE)) == 0
        valkey.lpush(queue_name("camera"), "1")
        assert take_bell(connection, [ENGINE, "camera"], wait=ONCE) == "camera"


POISON = {
    "nothing": b"",
    "binary": b"\x80\x04\x95\xff\x00",
    "no JSON": b'{"id": ',
    "JSON of another kind": b"[1, 2, 3]",
    "a number": b"1",
    "null": b"null",
    "another program's message": json.dumps({"body": "W10=", "headers": {}}).encode(),
    "a task that kills": json.dumps(
        {"headers": {"task": "x", "timelimit": [0.01, 0.01]}}
    ).encode(),
    "deep": b"[" * 100_000,
    "huge": b"x" * (4 << 20),
    "an id that is a number": b'{"id": 5, "version": 1}',
    "an id that is none": b'{"id": "job_1", "version": 1}',
    "no version": json.dumps({"id": uuid4().hex}).encode(),
    "a version that is text": json.dumps({"id": uuid4().hex, "version": "1"}).encode(),
    "numbers without end": b'{"id": 1e999999999, "version": ' + b"9" * 100_000 + b"}",
}


@pytest.mark.parametrize("kind", POISON)
def test_whatever_is_pushed_is_a_bell_like_any_other(
    valkey: Redis, slot: HeartbeatFile, listener: Listener, kind: str
) -> None:
    for _ in range(2):
        rest(slot)
        valkey.lpush(queue_name(ENGINE), POISON[kind])
        heard(slot)
    assert waiting(valkey) == 0


@pytest.mark.parametrize("kind", POISON)
def test_what_is_no_announcement_says_nothing(kind: str) -> None:
    assert read_change(POISON[kind]) is None


def test_an_announcement_is_read_as_it_was_sent(url: str, bell: Bell, valkey: Redis) -> None:
    job_id = new_id()
    with valkey.pubsub() as subscription:
        subscription.subscribe(CHANNEL)
        until(lambda: subscription.get_message(timeout=1), "the subscription stands")
        bell.publish_change(job_id, 7, owner_id := new_id())
        message = until(
            lambda: (m := subscription.get_message(timeout=1)) and m["type"] == "message" and m,
            "it is heard",
        )
    change = read_change(message["data"])
    assert change is not None
    assert tuple(change) == (job_id, 7, owner_id)


def test_a_waiter_hears_of_its_job_although_garbage_was_announced(
    module_stack: Stack, valkey: Redis, bell: Bell
) -> None:
    """The next look is an hour away, so only the announcement can tell the waiter."""
    with contextlib.closing(JobFixture(module_stack.settings(), bell)) as desk:
        job = desk.submit()
        url = module_stack.settings().redis_url.get_secret_value()
        waiters = JobWatcher(JobQueries(desk.db), JobNews(desk.db), url, floor=timedelta(hours=1))
        with contextlib.closing(waiters):
            listening(valkey)
            for body in POISON.values():
                valkey.publish(CHANNEL, body)

            async def follow() -> None:
                with waiters.watch(job.id) as watch:
                    await asyncio.wait_for(watch.changed(), 60)
                    cancel = threading.Thread(
                        target=lambda: desk.jobs.cancel(job.id, owner_id=job.owner_id)
                    )
                    cancel.start()
                    await asyncio.wait_for(watch.changed(), 60)
                    cancel.join()
                    assert watch.job is not None
                    assert watch.job.is_terminal

            asyncio.run(follow())


def listening(valkey: Redis) -> None:
    until(lambda: valkey.pubsub_numsub(CHANNEL)[0][1] == 1, "the waiters listen")
