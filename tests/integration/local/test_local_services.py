"""The embedded servers keep their data, and each test finds them whole and empty."""

import shutil
import socket
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from redis import Redis
from redis.exceptions import RedisError

from local.processes.process import CannotStart, Process
from local.servers.postgres import postgres
from local.servers.seaweed import is_blocked, sweep_sockets
from local.servers.valkey import valkey as valkey_part
from local.state import State
from tests.support.ports import free_port, service_ports
from tests.support.servers import MEMORY, PREFIX, Server, connect, folder_in_use
from tests.support.stack import Stack


def client(stack: Stack, *, seconds: float) -> Redis:
    return Redis.from_url(
        stack.settings().redis_url.get_secret_value(),
        socket_timeout=seconds,
        decode_responses=True,
    )


@pytest.fixture
def valkey(stack: Stack) -> Redis:
    return client(stack, seconds=30)


@pytest.mark.extended
@pytest.mark.parametrize("end", [Server.stop, Server.kill])
def test_the_servers_keep_everything_however_they_ended(
    stack: Stack, valkey: Redis, end: Callable[[Server], None]
) -> None:
    with connect(stack.servers.state, stack.database) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 7 AS number")
    valkey.set("kept", "7")
    stack.servers.storage.put("kept", b"7", content_type="text/plain")

    for server in stack.servers:
        end(server)
    for server in stack.servers:
        server.restart()

    with connect(stack.servers.state, stack.database) as connection:
        assert connection.execute("SELECT number FROM kept").fetchone() == (7,)
    assert valkey.get("kept") == "7"
    assert stack.servers.storage.get("kept") == b"7"


def test_a_frozen_server_does_not_answer_and_is_whole_after_healing(
    stack: Stack, valkey: Redis
) -> None:
    stack.valkey.freeze()
    with client(stack, seconds=1) as hasty, pytest.raises(RedisError):
        hasty.ping()

    stack.servers.heal()

    assert valkey.ping()


@pytest.mark.parametrize("turn", ["first", "second"])
def test_each_test_starts_from_nothing(stack: Stack, valkey: Redis, turn: str) -> None:
    with connect(stack.servers.state, stack.database) as connection:
        assert connection.execute("SELECT count(*) FROM jobs").fetchone() == (0,)
        connection.execute("DROP TABLE jobs CASCADE")
    assert valkey.dbsize() == 0
    valkey.set("left", turn)
    assert stack.servers.storage.delete_prefix("") == 0
    stack.servers.storage.put("left", b"", content_type="text/plain")


@pytest.mark.parametrize(
    "damage",
    [
        lambda log: next(log.glob("*.incr.aof")).write_bytes(
            bytes(64) + b"*3 what a loss of power"
        ),
        lambda log: (log / "appendonly.aof.manifest").write_text("file appendonly.aof.1"),
    ],
    ids=["zeros", "half a manifest"],
)
def test_a_valkey_whose_log_is_damaged_starts_again_without_it(
    tmp_path: Path, damage: Callable[[Path], object]
) -> None:
    """Valkey has no data of value, but its damaged log once stopped everything for good."""
    (tmp_path / "logs").mkdir()
    part = valkey_part(tmp_path, State(ports={"valkey": free_port()}))
    first = Process(part)
    first.wait_ready()
    first.kill()
    damage(tmp_path / "valkey" / "appendonlydir")
    with pytest.raises(CannotStart, match="valkey did not start: "):
        Process(part).wait_ready()

    again = Process(part)
    again.wait_ready()

    again.kill()


def test_a_state_that_does_not_belong_to_the_data_is_told_at_once(
    stack: Stack, tmp_path: Path
) -> None:
    """Once Postgres was started five times for a minute each, and no error named the password."""
    of_others = replace(stack.servers.state, postgres_password="0" * 48)
    ready = postgres(tmp_path, of_others, is_durable=False).ready
    assert ready
    with pytest.raises(CannotStart, match=r"^Postgres refuses the password in state\.json"):
        ready()


def test_a_server_that_cannot_start_says_why(stack: Stack, tmp_path: Path) -> None:
    broken = replace(
        stack.valkey.part,
        argv=(*stack.valkey.part.argv, "--port", "nonsense"),
        log=tmp_path / "log",
        ready=lambda: False,
    )
    refusal = r"^valkey did not start: argument couldn't be parsed"
    with pytest.raises(CannotStart, match=refusal) as caught:
        Server(broken).restart()
    assert 'port "nonsense"' in caught.value.__notes__[0], "the lines before the last"


def test_a_postgres_that_cannot_start_says_its_error_and_not_that_it_is_shut_down(
    tmp_path: Path,
) -> None:
    (tmp_path / "logs").mkdir()
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        state = State(ports={"postgres": other.getsockname()[1]})
        taken = Process(postgres(tmp_path, state, is_durable=False))
        with pytest.raises(CannotStart, match=r"FATAL:  could not create any TCP/IP sockets$"):
            taken.wait_ready()


def test_a_killed_postgres_leaves_no_shared_memory(stack: Stack) -> None:
    maps = [it.path for it in psutil.Process(stack.postgres.pid).memory_maps()]
    folder = str(stack.servers.folder)
    assert any(path.startswith(f"{folder}/pg/pg_dynshmem/") for path in maps)
    assert not [path for path in maps if path.startswith(str(MEMORY / "PostgreSQL"))]


def test_a_folder_that_a_killed_run_left_is_removed_by_the_next_and_one_in_use_is_not() -> None:
    with folder_in_use() as used:
        left = Path(tempfile.mkdtemp(prefix=PREFIX, dir=used.parent))
        with folder_in_use():
            assert not left.exists()
            assert used.exists()
    assert not used.exists()


def test_postgres_keeps_its_data_where_root_loses_its_user_namespaces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A container with other rights has no `unshare`, so Postgres runs as another user."""
    folder = Path(tempfile.mkdtemp(prefix="stillreel-pg-"))
    folder.chmod(0o711)
    (folder / "logs").mkdir()
    state = State(ports=service_ports())
    try:
        first = Process(postgres(folder, state, is_durable=False))
        first.wait_ready()
        with connect(state) as connection:
            connection.execute("CREATE TABLE kept AS SELECT 7 AS number")
        first.stop()
        for program in ("sh", "setpriv"):
            (tmp_path / program).symlink_to(shutil.which(program) or "")
        monkeypatch.setenv("PATH", str(tmp_path))

        second = Process(postgres(folder, state, is_durable=False))
        second.wait_ready()
        with connect(state) as connection:
            assert connection.execute("SELECT number FROM kept").fetchone() == (7,)
        second.stop()
    finally:
        shutil.rmtree(folder)


def test_only_sockets_that_nothing_serves_any_more_are_swept(tmp_path: Path) -> None:
    state = State(ports=service_ports())
    dead, alive = state.ports["master.grpc"], state.ports["filer.grpc"]
    for port in (dead, alive):
        (tmp_path / f"seaweedfs-master-grpc-{port}.sock").touch()
    with socket.create_server(("127.0.0.1", alive)):
        sweep_sockets(state, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [f"seaweedfs-master-grpc-{alive}.sock"]


def test_a_port_with_another_users_socket_is_not_given_to_seaweedfs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = free_port()
    (tmp_path / f"seaweedfs-master-grpc-{port}.sock").touch()
    assert not is_blocked(port, tmp_path)
    monkeypatch.setattr("local.servers.seaweed.os.geteuid", lambda: 12345)
    assert is_blocked(port, tmp_path)
    assert not is_blocked(port + 1, tmp_path)
