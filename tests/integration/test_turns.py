"""One owner's load does not stop others: decoding, threads, arriving bodies, memory."""

import contextlib
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from inspect import iscoroutinefunction
from typing import Any

import psutil
import pytest
import requests
from fastapi.routing import APIRoute
from sqlalchemy import text

from api.concurrency.thread_pools import SPOOL_BYTES
from api.images.decoder_pool import Decoders
from api.images.protocol import Limits
from api.limits import SHIPPED
from api.route import Route
from api.routes import (
    admin,
    api_keys,
    docs,
    health,
    jobs,
    legacy,
    models,
    webhook_deliveries,
    webhook_endpoints,
)
from tests.support.gateway import FakeWorker, Gateway, beside, running_gateway
from tests.support.processes import until
from tests.support.stack import ROOT, Stack
from tests.support.tenants import Holder, KeyAdmin, key_admin_of

PHOTO = (ROOT / "samples" / "coffee.jpg").read_bytes()
BURST = 80
LARGE = 32 * 2**20


@pytest.fixture(scope="module")
def one_shipped(module_stack: Stack) -> Iterator[Gateway]:
    settings = module_stack.settings(rate_limit="none")
    limits = Limits(wall_seconds=600)
    told = partial(Decoders, limits=limits, module="tests.support.faulty_decoder")
    with contextlib.ExitStack() as opened:
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr("api.ports.Decoders", told)
            gateway = opened.enter_context(running_gateway(settings, SHIPPED))
        yield gateway


@pytest.fixture
def shipped(one_shipped: Gateway, fake_worker: FakeWorker) -> Gateway:
    """A gateway with the shipped limits, whose decoders do what an image says."""
    return one_shipped


@pytest.fixture(scope="module")
def key_admin(module_stack: Stack) -> Iterator[KeyAdmin]:
    with key_admin_of(module_stack.settings()) as locksmith:
        yield locksmith


@pytest.fixture(scope="module")
def tenants(key_admin: KeyAdmin, one_shipped: Gateway) -> tuple[Holder, Holder]:
    return tuple(key_admin.holder(one_shipped, name)[1] for name in ("one", "other"))  # type: ignore[return-value]


def upload(who: Holder, path: str = "/v1/jobs", body: bytes = PHOTO) -> requests.Response:
    return requests.post(
        f"{who.gateway.url}{path}",
        files={"image": ("a.jpg", body)},
        headers={"Authorization": f"Bearer {who.text}"},
        timeout=100,
    )


@contextlib.contextmanager
def again_and_again(work: Any, *, threads: int) -> Iterator[Counter[int]]:
    """Repeat the work in this many threads meanwhile; yield the count of each status."""
    is_over, seen = threading.Event(), Counter[int]()

    def go_on() -> None:
        while not is_over.is_set():
            seen[work().status_code] += 1

    with ThreadPoolExecutor(threads) as pool:
        tasks = [pool.submit(go_on) for _ in range(threads)]
        try:
            yield seen
        finally:
            is_over.set()
            for task in tasks:
                task.result(timeout=100)


@pytest.mark.extended
def test_a_burst_of_photos_waits_in_line_and_is_taken_whole(
    shipped: Gateway, tenants: tuple[Holder, Holder], fake_worker: FakeWorker
) -> None:
    one, other = tenants
    with ThreadPoolExecutor(BURST) as clients:
        burst = [clients.submit(upload, one) for _ in range(BURST)]
        until(
            lambda: shipped.ports.pools.body_memory.turns._line or burst[0].done(), "it has begun"
        )
        scripts = [beside(partial(upload, who, "/generate")) for who in (other, one)]
        assert Counter(each.result().status_code for each in burst) == {202: BURST}
        for _ in range(BURST + len(scripts)):
            fake_worker.complete(fake_worker.claim())
        assert [each.result(100).status_code for each in scripts] == [200, 200]


def test_slow_images_of_one_owner_leave_anothers_a_process(
    shipped: Gateway, tenants: tuple[Holder, Holder]
) -> None:
    slow, other = tenants
    decoding = shipped.ports.pools.decoding._turns
    waiting = [beside(lambda: upload(slow, body=b"wait\n" + PHOTO)) for _ in range(10)]
    try:
        until(lambda: decoding._line, "more wait than may")
        assert [upload(other).status_code for _ in range(5)] == [202] * 5
        assert decoding.free == 1
        assert not any(each.done() for each in waiting)
    finally:
        until(lambda: _release(waiting), "they have gone on")
    assert Counter(each.result().status_code for each in waiting) == {202: 10}


def _release(waiting: list[Future[requests.Response]]) -> bool:
    """Release the images that wait in decoders; return whether all requests have an answer."""
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if "tests.support.faulty_decoder" in process.cmdline():
                process.send_signal(signal.SIGUSR1)
    return all(each.done() for each in waiting)


def test_requests_of_one_owner_that_hang_in_the_database_hang_nobody_elses(
    shipped: Gateway, tenants: tuple[Holder, Holder], fake_worker: FakeWorker
) -> None:
    hanging, other = tenants
    job, others = hanging.created(), other.created()
    cancel = f"/v1/jobs/{job}/cancel"
    with fake_worker.db.begin() as held:
        held.execute(text("SELECT 1 FROM jobs WHERE id = :id FOR UPDATE"), {"id": job[4:]})
        with again_and_again(lambda: hanging.send("POST", cancel), threads=40) as seen:
            until(lambda: shipped.ports.pools.database._turns._line, "more wait than may")
            for _ in range(20):
                assert other.get(f"/v1/jobs/{others}").status_code == 200
                assert other.get("/v1/jobs").status_code == 200
            assert other.create().status_code == 202
        assert set(seen) == {503}


def test_bodies_of_one_owner_that_trickle_keep_nobody_elses_out(
    shipped: Gateway, tenants: tuple[Holder, Holder]
) -> None:
    trickling, other = tenants
    spool = shipped.ports.pools.spool
    with contextlib.ExitStack() as opened:
        for _ in range(2 * SPOOL_BYTES // LARGE):
            opened.enter_context(_trickle(trickling))
        until(lambda: spool._line, "more is declared than fits")
        assert spool.free == SPOOL_BYTES * 3 // 4
        assert [upload(other).status_code for _ in range(3)] == [202] * 3
    until(lambda: spool.free == SPOOL_BYTES, "it is given back")


@contextlib.contextmanager
def _trickle(who: Holder) -> Iterator[None]:
    """Keep a connection open on which a large body has begun to arrive."""
    head = (
        f"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {who.text}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {LARGE}\r\n\r\n{{"
    )
    with socket.create_connection(("127.0.0.1", who.gateway.port), timeout=30) as connection:
        connection.sendall(head.encode())
        yield


def test_who_waits_for_a_turn_is_let_go_when_the_gateway_stops(
    module_stack: Stack, fake_worker: FakeWorker, tenants: tuple[Holder, Holder]
) -> None:
    with running_gateway(module_stack.settings(), SHIPPED) as gateway:
        room = gateway.ports.pools.body_memory.turns
        with gateway.holding(room, room.free, owners=4):
            waiting = beside(Holder(gateway, tenants[0].text).create)
            until(lambda: room._line, "it waits")
            began = time.monotonic()
            gateway.begin_to_stop()
            answer = waiting.result(30)
        assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
        assert "stopping" in answer.json()["detail"]
        assert time.monotonic() - began < 10


def test_every_handler_that_takes_a_thread_takes_it_in_turn() -> None:
    plain = {
        route.path: type(route)
        for module in (
            admin,
            webhook_deliveries,
            docs,
            health,
            jobs,
            api_keys,
            legacy,
            models,
            webhook_endpoints,
        )
        for route in module.router.routes
        if isinstance(route, APIRoute) and not iscoroutinefunction(route.endpoint)
    }
    assert len(plain) > 10
    assert [path for path, kind in plain.items() if kind is not Route] == []
