"""Jobs are refused if there is no room for them: on full disks, stores and workers."""

import contextlib
import os
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest

from local.processes.process import Process
from local.servers.seaweed import BUCKET, seaweed
from local.state import State
from shared.engines.registry import WorkerInfo
from shared.errors import StorageUnavailable
from shared.settings import Settings
from shared.storage import Storage
from tests.support.gateway import MOVES, FakeWorker, Gateway, running_gateway
from tests.support.ports import service_ports
from tests.support.processes import crew, until
from tests.support.servers import settings_from
from tests.support.stack import Stack

EVERYTHING = 2**60
MEBIBYTE = 2**20


def is_empty(gateway: Gateway) -> bool:
    return bool(gateway.get("/v1/jobs").json()["data"] == [])


def test_a_disk_that_is_nearly_full_takes_no_job_and_answers_the_rest(
    module_stack: Stack, fake_worker: FakeWorker, gateway: Gateway
) -> None:
    known = gateway.created(headers={"Idempotency-Key": "before"})
    settings = module_stack.settings(min_free_bytes=EVERYTHING)
    with running_gateway(settings) as full:
        refused = full.create()
        again = full.create(headers={"Idempotency-Key": "before"})
        assert len(full.get("/v1/jobs").json()["data"]) == 1
    assert (refused.status_code, refused.json()["code"]) == (507, "storage_full")
    assert int(refused.headers["Retry-After"]) >= 1
    assert "DATA_DIR" in refused.json()["detail"]
    assert str(settings.data_dir) not in refused.text
    assert (again.status_code, again.json()["id"]) == (202, known["id"])
    assert fake_worker.claim().public_id == known["id"]


def test_a_data_folder_on_another_machine_is_not_judged(
    module_stack: Stack, fake_worker: FakeWorker
) -> None:
    elsewhere = module_stack.settings(min_free_bytes=EVERYTHING, data_dir=Path("/nowhere"))
    with running_gateway(elsewhere) as gateway:
        assert gateway.create().status_code == 202


def say(fake_worker: FakeWorker, name: str, free_bytes: int | None) -> None:
    """Show a live worker that serves `moves` and has this much room."""
    fake_worker.registry.beat(
        WorkerInfo(
            name=name,
            host="here",
            pid=1,
            device="cpu",
            device_name=None,
            vram_bytes=None,
            engines=[MOVES.name],
            resident_engine=None,
            state="ready",
            model_loads=0,
            free_bytes=free_bytes,
        )
    )


def test_a_job_is_refused_where_no_worker_has_room(
    gateway: Gateway, fake_worker: FakeWorker
) -> None:
    say(fake_worker, "hand", MEBIBYTE)
    refused = gateway.create()
    assert (refused.status_code, refused.json()["code"]) == (503, "workers_full")
    assert int(refused.headers["Retry-After"]) >= 1
    assert is_empty(gateway)


@pytest.mark.parametrize("room", [None, 1024 * MEBIBYTE])
def test_one_worker_with_room_is_enough(
    gateway: Gateway, fake_worker: FakeWorker, room: int | None
) -> None:
    say(fake_worker, "hand", MEBIBYTE)
    say(fake_worker, "another", room)
    assert gateway.create().status_code == 202


class FullStore(BaseHTTPRequestHandler):
    """An S3 store that refuses every PUT with a given status and code."""

    status: ClassVar[int]
    code: ClassVar[str]

    def do_PUT(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        body = f"<Error><Code>{self.code}</Code><Message>no room</Message></Error>".encode()
        self.send_response(self.status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing."""


@contextlib.contextmanager
def full_store(status: int, code: str) -> Iterator[str]:
    kind = type("Store", (FullStore,), {"status": status, "code": code})
    with ThreadingHTTPServer(("127.0.0.1", 0), kind) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize(
    ("status", "code", "answered", "named"),
    [
        (507, "XMinioStorageFull", 507, "storage_full"),
        *(
            pytest.param(*case, marks=pytest.mark.extended)
            for case in (
                (507, "InsufficientCapacity", 507, "storage_full"),
                (400, "XMinioAdminBucketQuotaExceeded", 507, "storage_full"),
                (500, "InternalError", 503, "storage_unavailable"),
            )
        ),
        (403, "QuotaExceeded", 507, "storage_full"),
        (503, "SlowDown", 503, "storage_unavailable"),
    ],
)
def test_a_store_that_says_it_is_full_is_heard_before_the_job_is_accepted(
    module_stack: Stack, fake_worker: FakeWorker, status: int, code: str, answered: int, named: str
) -> None:
    with (
        full_store(status, code) as url,
        running_gateway(module_stack.settings(s3_endpoint=url)) as gateway,
    ):
        refused = gateway.create()
        assert (refused.status_code, refused.json()["code"]) == (answered, named)
        assert int(refused.headers["Retry-After"]) >= 1
        assert is_empty(gateway)


@pytest.fixture
def tiny_store(tmp_path: Path) -> Iterator[Settings]:
    """The settings of a SeaweedFS with one volume of a mebibyte, which is full."""
    (tmp_path / "logs").mkdir()
    state = State(ports=service_ports())
    part = seaweed(tmp_path, state)
    limits = ("-volume.max=1", "-master.volumeSizeLimitMB=1")
    # The store's own probe would wait for room that never comes.
    process = Process(replace(part, argv=part.argv + limits, ready=lambda: True))
    try:
        settings = settings_from(
            {
                "STILLREEL_S3_ENDPOINT": f"http://127.0.0.1:{state.ports['s3']}",
                "STILLREEL_S3_BUCKET": BUCKET,
                "STILLREEL_S3_ACCESS_KEY": state.s3_access_key,
                "STILLREEL_S3_SECRET_KEY": state.s3_secret_key,
            }
        )
        with contextlib.closing(Storage(settings)) as store:
            until(lambda: holds(store, "first", 1000), "it stores anything")
            until(lambda: is_full(store), "it is full")
        yield settings
    finally:
        process.kill()


def is_full(store: Storage) -> bool:
    """Fill the store, and return whether it refuses small objects too; a slow store would not."""
    sizes = (300_000, 1000, 1000)
    return not any(holds(store, os.urandom(4).hex(), size) for size in sizes)


def holds(store: Storage, key: str, size: int) -> bool:
    try:
        store.put(key, os.urandom(size), content_type="text/plain")
    except StorageUnavailable:
        return False
    return True


def test_a_seaweedfs_without_room_takes_no_job(
    module_stack: Stack, fake_worker: FakeWorker, tiny_store: Settings
) -> None:
    """SeaweedFS says only InternalError, so the answer is 503 and not 507."""
    settings = module_stack.settings(
        s3_endpoint=tiny_store.s3_endpoint,
        s3_access_key=tiny_store.s3_access_key.get_secret_value(),
        s3_secret_key=tiny_store.s3_secret_key.get_secret_value(),
    )
    with running_gateway(settings) as gateway:
        refused = gateway.create()
        assert (refused.status_code, refused.json()["code"]) == (503, "storage_unavailable")
        assert is_empty(gateway)


@pytest.mark.extended
def test_a_worker_without_room_takes_no_job_and_says_how_much_it_has(
    stack: Stack, tmp_path: Path
) -> None:
    with crew(stack, tmp_path) as people, FakeWorker.on(stack) as hand:
        people.keeper(keeper_tick_seconds=0.1)
        worker = people.worker(engines="noop=bench.noop:NoopEngine", min_free_bytes=EVERYTHING)
        room = "SELECT free_bytes FROM workers WHERE name <> 'hand'"

        def beats() -> bool:
            with hand.db.autocommit() as connection:
                return bool(connection.exec_driver_sql(room).scalar())

        until(beats, "the worker has said how much room it has")
        with running_gateway(stack.settings()) as gateway:
            job = gateway.created(model="noop")
            until(lambda: "no_room_for_a_clip" in worker.text(), "the worker has answered a bell")
            assert gateway.get(f"/v1/jobs/{job['id']}").json()["status"] == "queued"
