"""A wait over HTTP hears a change at once, is bounded, and takes no thread or connection."""

import asyncio
import contextlib
import socket
import time
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import replace
from datetime import timedelta

import pytest
import requests
from redis import Redis

from shared.lifecycle import Status
from tests.support.gateway import (
    PATIENCE,
    PATIENT,
    FakeWorker,
    Gateway,
    beside,
    running_gateway,
)
from tests.support.processes import until
from tests.support.stack import Stack


def waiting(
    gateway: Gateway, path: str, headers: dict[str, str] | None = None
) -> "Future[requests.Response]":
    """Start a request that waits, on a connection of its own; return once it waits."""
    before = watchers(gateway)
    future = beside(lambda: requests.get(f"{gateway.url}{path}", timeout=70, headers=headers))
    until(lambda: watchers(gateway) > before, "the request waits")
    return future


def open_poll(gateway: Gateway, job_id: str) -> socket.socket:
    """Send a long poll and leave its answer unread."""
    connection = socket.create_connection(("127.0.0.1", gateway.port), timeout=60)
    connection.sendall(f"GET /v1/jobs/{job_id}?wait=60 HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    return connection


def watchers(gateway: Gateway) -> int:
    return len(gateway.ports.job_watcher)


HEARS_ALONE = replace(PATIENT, floor=timedelta(minutes=10), redis_seconds=PATIENCE.seconds)
"""The limits of a gateway whose waiters learn of a change only by its announcement."""


@contextlib.contextmanager
def hearing(stack: Stack) -> Iterator[Gateway]:
    """Yield a gateway of HEARS_ALONE once it listens to announcements."""
    url = stack.settings().redis_url.get_secret_value()
    with Redis.from_url(url) as valkey:
        before = int(valkey.client_id())
        with running_gateway(stack.settings(), HEARS_ALONE) as gateway:
            until(lambda: any(number > before for number in listeners(valkey)), "it listens")
            yield gateway


def listeners(valkey: Redis) -> list[int]:
    """Return the ids of the connections that hear announcements; Redis only counts up."""
    return [int(each["id"]) for each in valkey.client_list(_type="pubsub")]


@pytest.fixture
def announcer(module_stack: Stack, fake_worker: FakeWorker) -> Iterator[FakeWorker]:
    """A fake worker whose bell is patient with a busy machine; the shipped bell soon gives up."""
    settings = module_stack.settings()
    with contextlib.closing(FakeWorker(settings, bell_seconds=PATIENCE.seconds)) as one:
        yield one


def test_a_long_poll_ends_with_the_job_because_that_is_announced(
    module_stack: Stack, announcer: FakeWorker
) -> None:
    with hearing(module_stack) as gateway:
        job_id = gateway.created()["id"]
        job = announcer.claim()
        poll = waiting(gateway, f"/v1/jobs/{job_id}?wait=60")
        announcer.beat(job, step=3)
        announcer.complete(job)
        assert poll.result(timeout=30).json()["status"] == "succeeded"


def test_what_happened_before_the_wait_began_is_seen(
    module_stack: Stack, announcer: FakeWorker
) -> None:
    with hearing(module_stack) as gateway:
        gateway.created()
        stale = announcer.claim()
        announcer.complete(stale)
        waiters = gateway.ports.job_watcher
        # In the second round the reader's own first look has already happened.
        for _ in range(2):
            wait = waiters.until(stale, lambda job: job.is_terminal, within=timedelta(seconds=30))
            newest = asyncio.run(wait)
            assert newest.status is Status.SUCCEEDED


def test_a_long_poll_gives_the_newest_state_when_its_time_is_up(
    gateway: Gateway, fake_worker: FakeWorker
) -> None:
    job_id = gateway.created()["id"]
    began = time.monotonic()
    answer = gateway.get(f"/v1/jobs/{job_id}?wait=1")
    assert 1 <= time.monotonic() - began < 30
    assert (answer.status_code, answer.json()["status"]) == (200, "queued")


def test_a_long_poll_of_an_ended_job_does_not_wait(
    gateway: Gateway, fake_worker: FakeWorker
) -> None:
    job_id = gateway.created()["id"]
    fake_worker.complete(fake_worker.claim())
    etag = gateway.get(f"/v1/jobs/{job_id}").headers["ETag"]
    assert gateway.get(f"/v1/jobs/{job_id}?wait=60").json()["status"] == "succeeded"
    known = gateway.get(f"/v1/jobs/{job_id}?wait=60", headers={"If-None-Match": etag})
    assert (known.status_code, known.content) == (304, b"")


def test_a_client_that_knows_this_version_waits_for_the_next(
    gateway: Gateway, fake_worker: FakeWorker
) -> None:
    path = f"/v1/jobs/{gateway.created()['id']}"
    job = fake_worker.claim()
    etag = gateway.get(path).headers["ETag"]
    poll = waiting(gateway, f"{path}?wait=60", headers={"If-None-Match": etag})
    fake_worker.beat(job, step=7)
    answer = poll.result(timeout=30)
    assert (answer.status_code, answer.json()["progress"]["step"]) == (200, 7)
    assert answer.headers["ETag"] != etag
    stale = gateway.get(f"{path}?wait=60", headers={"If-None-Match": etag})
    assert stale.json()["progress"]["step"] == 7


def test_an_unchanged_job_is_not_sent_again(gateway: Gateway, fake_worker: FakeWorker) -> None:
    path = f"/v1/jobs/{gateway.created()['id']}"
    fake_worker.claim()
    etag = gateway.get(path).headers["ETag"]
    for condition in (etag, etag.removeprefix("W/"), f'"other", {etag}', "*"):
        answer = gateway.get(path, headers={"If-None-Match": condition})
        assert (answer.status_code, answer.content) == (304, b"")
        assert answer.headers["ETag"] == etag
    assert gateway.get(path, headers={"If-None-Match": '"other"'}).status_code == 200
    waited = gateway.get(f"{path}?wait=1", headers={"If-None-Match": etag})
    assert waited.status_code == 304


def test_the_etag_is_the_same_under_every_address(
    gateway: Gateway, fake_worker: FakeWorker
) -> None:
    path = f"/v1/jobs/{gateway.created()['id']}"
    fake_worker.complete(fake_worker.claim())
    here = gateway.get(path)
    there = gateway.get(path, headers={"Host": "studio"})
    assert "http://studio/v1/jobs/" in there.json()["output"]["video"]["url"]
    assert here.headers["ETag"] == there.headers["ETag"]


def test_a_create_that_prefers_to_wait_returns_the_finished_job(
    gateway: Gateway, fake_worker: FakeWorker
) -> None:
    create = beside(lambda: gateway.create(headers={"Prefer": "wait=60"}))
    fake_worker.complete(fake_worker.claim())
    answer = create.result(timeout=30)
    assert (answer.status_code, answer.json()["status"]) == (200, "succeeded")
    assert answer.headers["Preference-Applied"] == "wait=60"


def test_a_create_that_waited_in_vain_is_still_accepted(gateway: Gateway) -> None:
    answer = gateway.create(headers={"Prefer": "wait=1"})
    assert (answer.status_code, answer.json()["status"]) == (202, "queued")


def test_a_deleted_job_ends_the_wait_for_it(gateway: Gateway) -> None:
    create = beside(lambda: gateway.create(headers={"Prefer": "wait=60"}))
    until(lambda: watchers(gateway), "the request waits")
    job_id = gateway.get("/v1/jobs").json()["first_id"]
    poll = waiting(gateway, f"/v1/jobs/{job_id}?wait=60")
    requests.delete(f"{gateway.url}/v1/jobs/{job_id}", timeout=60)
    assert poll.result(timeout=30).status_code == 404
    assert create.result(timeout=30).status_code == 404


@pytest.mark.extended
def test_two_hundred_waiters_hold_no_thread_and_all_hear(
    gateway: Gateway, fake_worker: FakeWorker
) -> None:
    job_id = gateway.created()["id"]
    job = fake_worker.claim()
    sockets = [open_poll(gateway, job_id) for _ in range(200)]
    until(lambda: watchers(gateway) == 200, "all wait")
    # Handlers have 40 threads and 10 connections. If 200 waiters took them, none would be left.
    assert gateway.get("/v1/queue").status_code == 200
    fake_worker.complete(job)
    for one in sockets:
        with one:
            one.settimeout(60)
            assert one.recv(12) == b"HTTP/1.1 200"
    until(lambda: watchers(gateway) == 0, "nobody waits")


def test_without_redis_a_waiter_still_hears(stack: Stack) -> None:
    with running_gateway(stack.settings()) as gateway, FakeWorker.on(stack) as hand:
        job_id = gateway.created()["id"]
        job = hand.claim()
        poll = waiting(gateway, f"/v1/jobs/{job_id}?wait=60")
        stack.valkey.kill()
        hand.complete(job)
        assert poll.result(timeout=30).json()["status"] == "succeeded"


def test_a_frozen_redis_delays_a_waiter_by_the_floor_only(stack: Stack) -> None:
    with running_gateway(stack.settings()) as gateway, FakeWorker.on(stack) as hand:
        job_id = gateway.created()["id"]
        job = hand.claim()
        poll = waiting(gateway, f"/v1/jobs/{job_id}?wait=60")
        stack.valkey.freeze()
        hand.complete(job)
        assert poll.result(timeout=30).json()["status"] == "succeeded"


def test_a_waiter_outlives_a_restart_of_postgres(stack: Stack) -> None:
    with running_gateway(stack.settings()) as gateway, FakeWorker.on(stack) as hand:
        job_id = gateway.created()["id"]
        job = hand.claim()
        poll = waiting(gateway, f"/v1/jobs/{job_id}?wait=60")
        stack.postgres.restart()
        hand.complete(job)
        assert poll.result(timeout=30).json()["status"] == "succeeded"


def test_a_stopping_gateway_lets_waiters_go_with_what_they_have(
    module_stack: Stack, fake_worker: FakeWorker
) -> None:
    with running_gateway(module_stack.settings()) as gateway:
        job_id = gateway.created()["id"]
        poll = waiting(gateway, f"/v1/jobs/{job_id}?wait=60")
        gateway.begin_to_stop()
        answer = poll.result(timeout=30)
        assert (answer.status_code, answer.json()["status"]) == (200, "queued")


@pytest.mark.parametrize("wait", ["-1", "61", "soon"])
def test_a_wait_out_of_bounds_is_refused(gateway: Gateway, wait: str) -> None:
    answer = gateway.get(f"/v1/jobs/{gateway.created()['id']}?wait={wait}")
    assert (answer.status_code, answer.json()["param"]) == (422, "wait")
