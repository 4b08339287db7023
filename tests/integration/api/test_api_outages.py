"""If a service is down or frozen, the gateway answers in bounded time, never with a false 202."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import requests

from api.limits import SHIPPED
from tests.support.gateway import (
    PATIENT,
    FakeWorker,
    Gateway,
    running_gateway,
    without_database,
    without_storage,
)
from tests.support.stack import Stack

pytestmark = pytest.mark.long

PROMISE_SECONDS = 5.0
DEADLINE_SECONDS = 10 * PROMISE_SECONDS
"""Ten times the promised seconds: a busy machine may be slow, but this still finds a hang."""

REQUESTS: dict[str, Callable[[Gateway], requests.Response]] = {
    "create": lambda gateway: gateway.create(),
    "create with key": lambda gateway: gateway.create(headers={"Idempotency-Key": "k"}),
    "generate": lambda gateway: gateway.post("/generate", files={"image": b"x"}),
    "get": lambda gateway: gateway.get(f"/v1/jobs/job_{'0' * 32}"),
    "wait": lambda gateway: gateway.get(f"/v1/jobs/job_{'0' * 32}?wait=60"),
    "list": lambda gateway: gateway.get("/v1/jobs"),
    "cancel": lambda gateway: gateway.post(f"/v1/jobs/job_{'0' * 32}/cancel"),
    "content": lambda gateway: gateway.get(f"/v1/jobs/job_{'0' * 32}/content"),
    "models": lambda gateway: gateway.get("/v1/models"),
    "queue": lambda gateway: gateway.get("/v1/queue"),
    "ready": lambda gateway: gateway.get("/readyz"),
}


def refusal(answer: requests.Response) -> tuple[int, str | None]:
    assert int(answer.headers["Retry-After"]) > 0
    return answer.status_code, answer.json().get("code")


def test_without_postgres_every_answer_is_a_503(module_stack: Stack) -> None:
    with running_gateway(without_database(module_stack)) as gateway:
        for name, send in REQUESTS.items():
            expected = None if name == "ready" else "database_unavailable"
            assert refusal(send(gateway)) == (503, expected), name
        assert gateway.get("/livez").status_code == 200
        assert gateway.get("/metrics").status_code == 200


def test_before_the_migrations_every_answer_is_a_503_that_says_so(module_stack: Stack) -> None:
    url = module_stack.settings().database_url.get_secret_value()
    empty = url.replace(module_stack.database, "postgres")
    with running_gateway(module_stack.settings(database_url=empty)) as gateway:
        for name in ("create", "get", "models", "ready"):
            answer = REQUESTS[name](gateway)
            assert (answer.status_code, "alembic upgrade head" in answer.text) == (503, True), name


def test_a_frozen_postgres_hangs_nobody_and_is_forgiven(stack: Stack) -> None:
    with (
        running_gateway(stack.settings(), SHIPPED) as gateway,
        FakeWorker.on(stack),
        ThreadPoolExecutor(40) as clients,
    ):
        gateway.created()
        stack.postgres.freeze()
        began = time.monotonic()
        sends = [(name, send) for name, send in REQUESTS.items() for _ in range(3)]
        answers = [(name, clients.submit(send, gateway)) for name, send in sends]
        assert gateway.get("/livez").elapsed.total_seconds() < DEADLINE_SECONDS
        for name, answer in answers:
            assert refusal(answer.result(timeout=DEADLINE_SECONDS))[0] == 503, name
        assert gateway.get("/metrics").status_code == 200
        assert time.monotonic() - began < DEADLINE_SECONDS
        stack.postgres.thaw()
        # Postgres first accepts the connections that the gateway gave up meanwhile.
        stack.postgres.wait_ready()
        assert gateway.create().status_code == 202
        assert len(gateway.get("/v1/jobs").json()["data"]) == 2


def test_a_restart_of_postgres_costs_no_request_after_it(stack: Stack) -> None:
    with running_gateway(stack.settings()) as gateway, FakeWorker.on(stack):
        gateway.created()
        stack.postgres.restart()
        assert gateway.create().status_code == 202


def test_without_storage_a_create_is_a_503_and_leaves_no_job(
    module_stack: Stack, fake_worker: FakeWorker, gateway: Gateway
) -> None:
    with running_gateway(without_storage(module_stack)) as cut_off:
        assert refusal(cut_off.create()) == (503, "storage_unavailable")
        assert refusal(cut_off.get("/readyz"))[0] == 503
        assert cut_off.get("/v1/jobs").json()["data"] == []
        job_id = gateway.created()["id"]
        deleted = cut_off.http.delete(f"{cut_off.url}/v1/jobs/{job_id}", timeout=30)
        assert deleted.status_code == 204


@pytest.mark.extended
def test_a_frozen_storage_refuses_creates_and_delays_nothing_else(stack: Stack) -> None:
    with (
        running_gateway(
            stack.settings(), replace(PATIENT, storage_read=SHIPPED.storage_read)
        ) as gateway,
        FakeWorker.on(stack),
        ThreadPoolExecutor(12) as clients,
    ):
        job_id = gateway.created()["id"]
        stack.s3.freeze()
        creates = [clients.submit(gateway.create) for _ in range(12)]
        while not all(create.done() for create in creates):
            answer = gateway.get(f"/v1/jobs/{job_id}")
            assert answer.status_code == 200
            assert answer.elapsed.total_seconds() < PROMISE_SECONDS
        for create in creates:
            answer = create.result()
            assert answer.status_code == 503
            assert answer.json()["code"] in {"storage_unavailable", "busy"}
            assert answer.elapsed.total_seconds() < DEADLINE_SECONDS


@pytest.mark.parametrize("outage", ["kill", "freeze"])
def test_a_lost_redis_delays_no_create(stack: Stack, outage: str) -> None:
    with running_gateway(stack.settings()) as gateway, FakeWorker.on(stack) as hand:
        getattr(stack.valkey, outage)()
        for _ in range(3):
            answer = gateway.create()
            assert answer.status_code == 202
            assert answer.elapsed.total_seconds() < PROMISE_SECONDS
        assert hand.claim().attempt == 1
