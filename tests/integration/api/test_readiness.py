"""/readyz checks what a submit needs: if it says ready, submits succeed; if not, they fail."""

import contextlib
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests
from redis import Redis
from sqlalchemy import text

from tests.support.gateway import MODEL, MOVES, FakeWorker, Gateway, photo_png, running_gateway
from tests.support.processes import crew, until
from tests.support.servers import connect
from tests.support.stack import Stack
from tests.support.stubborn_store import StubbornStore

pytestmark = pytest.mark.long

PARTS = {"database", "redis", "storage", "engines", "decoders", "workers", "disk"}


def unwell(answer: requests.Response) -> dict[str, str]:
    """Return the reason of each part that is not well."""
    parts = answer.json()["parts"]
    return {name: part["reason"] for name, part in parts.items() if not part["ok"]}


def test_a_gateway_that_can_accept_jobs_is_ready(gateway: Gateway) -> None:
    answer = gateway.get("/readyz")
    assert (answer.status_code, answer.json()["status"]) == (200, "ready")
    assert set(answer.json()["parts"]) == PARTS


def test_a_monitor_that_asks_for_headers_alone_gets_them(gateway: Gateway) -> None:
    for path in ("/livez", "/readyz"):
        answer = requests.head(f"{gateway.url}{path}", timeout=30)
        assert (answer.status_code, answer.content) == (200, b"")


@contextlib.contextmanager
def read_only(stack: Stack) -> Iterator[None]:
    """Make Postgres refuse every write, as it does when it is full or was demoted."""
    with connect(stack.servers.state) as connection:
        try:
            connection.execute("ALTER SYSTEM SET default_transaction_read_only = on")
            connection.execute("SELECT pg_reload_conf()")
            until(lambda: not _takes_writes(stack), "Postgres takes no write")
            yield
        finally:
            connection.execute("SET default_transaction_read_only = off")
            connection.execute("ALTER SYSTEM RESET default_transaction_read_only")
            connection.execute("SELECT pg_reload_conf()")
    until(lambda: _takes_writes(stack), "Postgres takes writes")


def _takes_writes(stack: Stack) -> bool:
    with connect(stack.servers.state) as connection:
        found = connection.execute("SHOW transaction_read_only").fetchone()
        return found == ("off",)


def test_a_postgres_that_only_reads_is_unready_and_recovers_by_itself(stack: Stack) -> None:
    with running_gateway(stack.settings()) as gateway, FakeWorker.on(stack):
        job_id = gateway.created()["id"]
        with read_only(stack):
            refused = gateway.create()
            assert (refused.status_code, refused.json()["code"]) == (503, "database_unavailable")
            assert "takes no writes" in refused.json()["detail"]
            assert int(refused.headers["Retry-After"]) > 0
            until(lambda: gateway.get("/readyz").status_code == 503, "the gateway is not ready")
            assert "takes no writes" in unwell(gateway.get("/readyz"))["database"]
            canceled = gateway.post(f"/v1/jobs/{job_id}/cancel")
            assert (canceled.status_code, canceled.json()["code"]) == (503, "database_unavailable")
            assert gateway.get(f"/v1/jobs/{job_id}").status_code == 200
        assert gateway.create().status_code == 202
        until(lambda: gateway.get("/readyz").status_code == 200, "the gateway is ready")


@pytest.mark.extended
def test_a_keeper_beside_a_postgres_that_only_reads_logs_little_and_goes_on(
    stack: Stack, tmp_path: Path
) -> None:
    with FakeWorker.on(stack), crew(stack, tmp_path) as keepers:
        keeper = keepers.start("worker.keeper")
        until(lambda: "keeper_ready" in keeper.log.read_text(), "the keeper works")
        with read_only(stack):
            until(lambda: "keeper_round_skipped" in keeper.log.read_text(), "a round was missed")
            before = len(keeper.log.read_text().splitlines())
            time.sleep(8)
            said = keeper.log.read_text().splitlines()[before:]
        # It would be four lines a second or more, if each round of each loop wrote one.
        assert len(said) <= 16
        assert "Traceback" not in keeper.log.read_text()
        with running_gateway(stack.settings()) as gateway:
            job = gateway.created(queue_ttl_seconds=1)
            until(
                lambda: gateway.get(f"/v1/jobs/{job['id']}").json()["status"] == "failed",
                "the keeper ends a job that waited too long",
            )


def test_connections_to_a_demoted_primary_are_given_up(stack: Stack) -> None:
    with running_gateway(stack.settings()) as gateway, FakeWorker.on(stack):
        with connect(stack.servers.state) as connection:
            name = stack.database
            connection.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
            with ThreadPoolExecutor(8) as clients:
                reads = [clients.submit(gateway.get, "/v1/usage") for _ in range(40)]
                assert {read.result().status_code for read in reads} == {200}
            connection.execute(f"ALTER DATABASE {name} RESET default_transaction_read_only")
        assert gateway.create().status_code == 503  # This connection leads to the old primary.
        for _ in range(10):
            assert gateway.create().status_code == 202


def test_a_store_that_lists_and_keeps_nothing_is_unready(
    module_stack: Stack, fake_worker: FakeWorker
) -> None:
    with (
        StubbornStore() as store,
        running_gateway(module_stack.settings(s3_endpoint=store.url)) as gateway,
    ):
        assert gateway.get("/readyz").status_code == 200
        store.is_full = True
        until(lambda: gateway.get("/readyz").status_code == 503, "the gateway is not ready")
        assert "InternalError" in unwell(gateway.get("/readyz"))["storage"]
        assert gateway.create().json()["code"] == "storage_unavailable"
        store.is_full = False
        until(lambda: gateway.get("/readyz").status_code == 200, "the gateway is ready")


def test_a_flood_of_scrapes_stores_one_object_a_second(
    module_stack: Stack, fake_worker: FakeWorker
) -> None:
    with StubbornStore() as store:
        with (
            running_gateway(module_stack.settings(s3_endpoint=store.url)) as gateway,
            ThreadPoolExecutor(20) as scrapers,
        ):
            scrapes = [scrapers.submit(gateway.get, "/readyz") for _ in range(200)]
            seconds = max(scrape.result().elapsed.total_seconds() for scrape in scrapes)
        assert {scrape.result().status_code for scrape in scrapes} == {200}
        # There would be two hundred, if each scrape stored an object.
        assert 1 <= store.asked["PUT"] <= 20 + seconds
        assert store.objects == {"probes/readyz"}


@pytest.mark.parametrize("how", [{"maxmemory": 1}, {"min-replicas-to-write": 1}])
def test_a_redis_that_takes_no_writes_is_degraded_and_ready(
    stack: Stack, how: dict[str, int]
) -> None:
    with (
        Redis.from_url(stack.settings().redis_url.get_secret_value()) as valkey,
        running_gateway(stack.settings()) as gateway,
        FakeWorker.on(stack),
    ):
        for name, value in how.items():
            valkey.config_set(name, value)
        try:
            until(lambda: bool(unwell(gateway.get("/readyz"))), "a part is unwell")
            answer = gateway.get("/readyz")
            assert (answer.status_code, answer.json()["status"]) == (200, "degraded")
            assert list(unwell(answer)) == ["redis"]
            assert "takes no writes" in unwell(answer)["redis"]
            assert gateway.create().status_code == 202
        finally:
            for name in how:
                valkey.config_set(name, 0)
        until(lambda: not unwell(gateway.get("/readyz")), "every part is well")


def test_without_redis_the_gateway_is_degraded_and_accepts(
    module_stack: Stack, fake_worker: FakeWorker
) -> None:
    with running_gateway(module_stack.settings(redis_url="redis://127.0.0.1:9/0")) as gateway:
        answer = gateway.get("/readyz")
        assert (answer.status_code, answer.json()["status"]) == (200, "degraded")
        assert list(unwell(answer)) == ["redis"]
        assert gateway.create().status_code == 202


def test_without_a_living_worker_the_gateway_is_degraded_and_accepts(
    module_stack: Stack, fake_worker: FakeWorker
) -> None:
    with fake_worker.db.begin() as connection:
        connection.execute(text("UPDATE workers SET beat_at = beat_at - interval '1 hour'"))
    with running_gateway(module_stack.settings()) as gateway:
        answer = gateway.get("/readyz")
        assert (answer.status_code, answer.json()["status"]) == (200, "degraded")
        assert unwell(answer) == {"workers": "no worker is alive; jobs wait until one starts"}
        assert gateway.create().status_code == 202


def test_a_full_disk_of_the_service_is_unready(
    module_stack: Stack, fake_worker: FakeWorker
) -> None:
    with running_gateway(module_stack.settings(min_free_bytes=2**60)) as gateway:
        answer = gateway.get("/readyz")
        assert answer.status_code == 503
        assert "STILLREEL_DATA_DIR" in unwell(answer)["disk"]
        assert gateway.create().json()["code"] == "storage_full"


def test_full_disks_of_all_workers_are_unready(
    gateway: Gateway, fake_worker: FakeWorker, module_stack: Stack
) -> None:
    with fake_worker.db.begin() as connection:
        connection.execute(text("UPDATE workers SET free_bytes = 1"))
    with running_gateway(module_stack.settings()) as asked:
        answer = asked.get("/readyz")
        assert answer.status_code == 503
        assert "no worker for" in unwell(answer)["disk"]
        assert asked.create().json()["code"] == "workers_full"


def test_before_the_first_worker_every_model_is_still_starting(
    module_stack: Stack, fake_worker: FakeWorker
) -> None:
    fake_worker.clear()
    with running_gateway(module_stack.settings()) as gateway:
        ready = gateway.get("/readyz")
        assert (ready.status_code, ready.json()["status"]) == (503, "unavailable")
        assert "no worker has started yet" in unwell(ready)["engines"]
        refused = [
            gateway.create(),
            gateway.create(model=MOVES.name),
            gateway.create(model="sora"),
            gateway.post("/generate", files={"image": photo_png()}),
            gateway.get(f"/v1/models/{MODEL.name}"),
        ]
        for answer in refused:
            assert (answer.status_code, answer.json()["code"]) == (503, "starting")
            assert int(answer.headers["Retry-After"]) > 0
            assert "the first is still starting" in answer.json()["detail"]
        fake_worker.offer(MOVES)
        assert gateway.create(model=MOVES.name).status_code == 202
        unknown = gateway.create(model="sora")
        assert (unknown.status_code, unknown.json()["code"]) == (404, "unknown_model")
        assert "there is moves" in unknown.json()["detail"]
