"""A running installation listens only where docs/security.md says, and lets no stranger in."""

import contextlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import psutil
import psycopg
import pytest

from local.processes.process import MARK
from local.servers.postgres import USER
from local.servers.services import INNER, PORTS, service_env
from local.state import State
from tests.e2e.test_service import Service
from tests.support import stranger
from tests.support.ports import service_ports
from tests.support.processes import until
from tests.support.servers import connect, settings_from
from tests.support.stack import ROOT

pytestmark = [pytest.mark.extended, pytest.mark.long, pytest.mark.timeout(400)]

GRPC_SOCKET = re.compile(r"/tmp/seaweedfs-\w+-grpc-\d+\.sock")  # noqa: S108


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A whole installation; each port has another number than usual."""
    service = Service(tmp_path_factory.mktemp("sockets"), engines="camera")
    data = service.folder / "data"
    data.mkdir()
    State(ports=service_ports()).save(data)
    with contextlib.ExitStack() as stack:
        stack.callback(service.end)
        service.start()
        until(lambda: listening(service).keys() >= PORTS.keys(), "the last ports are open")
        yield service


def state(service: Service) -> State:
    return State.load(service.folder / "data")


def listening(service: Service) -> dict[str, set[stranger.Address]]:
    """Return the addresses where the processes listen, by the name of the socket in the docs."""
    data = str(service.folder / "data")
    names = {port: name for name, port in state(service).ports.items()} | {service.port: "gateway"}
    found: dict[str, set[stranger.Address]] = {}
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            if process.environ().get(MARK) != data and process.cwd() != f"{data}/pg":
                continue
            for socket in process.net_connections("all"):
                # The address of a Unix socket is a path, and often empty, whatever the stubs say.
                here, there = cast(Any, socket.laddr), cast(Any, socket.raddr)
                if isinstance(here, str):
                    if here and not there:
                        name = "grpc.sock" if GRPC_SOCKET.fullmatch(here) else here
                        found.setdefault(name, set()).add(str(Path(process.cwd(), here)))
                elif here and not there:
                    name = names.get(here.port, f"port {here.port}")
                    found.setdefault(name, set()).add((here.ip, here.port))
    return found


def documented() -> set[str]:
    """Return the names in the first column of the table in docs/security.md."""
    text = (ROOT / "docs" / "security.md").read_text()
    section = text.split("\n## Who listens\n")[1].split("\n## ")[0]
    return set(re.findall(r"^\| `([^`]+)` \|", section, re.MULTILINE))


def test_every_listening_socket_stands_in_the_table(service: Service) -> None:
    assert set(listening(service)) == documented()


def test_every_port_is_on_loopback_alone(service: Service) -> None:
    ports = {at for places in listening(service).values() for at in places}
    assert {at[0] for at in ports if isinstance(at, tuple)} == {"127.0.0.1"}


@pytest.mark.parametrize("headers", [stranger.PAGE, stranger.USER], ids=["page", "user"])
def test_no_inner_port_answers_a_stranger(service: Service, headers: str) -> None:
    found = listening(service)
    for name in (*INNER, "grpc.sock"):
        for at in found[name]:
            for tls in (None, stranger.without_certificate()):
                for request in (stranger.http("GET", "/", headers), stranger.HTTP2):
                    answer = stranger.asked(at, request, tls)
                    assert answer == b"" or stranger.is_refusal(answer), (name, at)


def test_the_sockets_that_speak_plain_http_lie_in_a_folder_of_the_owners(service: Service) -> None:
    for name in ("filer.sock", "s3.sock"):
        (path,) = listening(service)[name]
        assert isinstance(path, str)
        assert Path(path).parent.stat().st_mode & 0o077 == 0
        answer = stranger.asked(path, stranger.http("GET", "/buckets/"))
        assert answer.split(b" ")[1] in {b"401", b"403"}, name


def test_the_store_answers_strangers_nothing_but_that_it_lives(service: Service) -> None:
    port = state(service).ports["s3"]
    for method, path in (
        ("GET", "/"),
        ("GET", "/stillreel?list-type=2"),
        ("GET", "/stillreel/videos/x.mp4"),
        ("PUT", "/stillreel/x"),
        ("DELETE", "/stillreel"),
        ("POST", "/?Action=CreateUser&UserName=x"),
    ):
        for headers in (stranger.PAGE, stranger.USER):
            answer = stranger.asked(port, stranger.http(method, path, headers))
            assert answer.split(b" ")[1] in {b"400", b"403"}, (method, path)


def test_a_page_gets_nothing_from_the_gateway(service: Service) -> None:
    for method in ("GET", "POST", "DELETE"):
        answer = stranger.asked(service.port, stranger.http(method, "/v1/jobs"))
        head, _, body = answer.partition(b"\r\n\r\n")
        assert head.split(b" ")[1] in {b"401", b"403"}, method
        assert b"access-control-allow-origin" not in head.lower()
        assert "data" not in json.loads(body)


def test_postgres_lets_in_its_password_alone(service: Service) -> None:
    kept = state(service)
    for user in (USER, "postgres"):
        for password in (None, "guessed"):
            with pytest.raises(psycopg.OperationalError, match="password"):
                psycopg.connect(
                    host="127.0.0.1",
                    port=kept.ports["postgres"],
                    user=user,
                    password=password,
                    dbname="stillreel",
                    passfile="/dev/null",
                    connect_timeout=20,
                )
    with connect(kept) as connection:
        rules = connection.execute("SELECT DISTINCT auth_method FROM pg_hba_file_rules").fetchall()
        users = connection.execute("SELECT usename FROM pg_user").fetchall()
    assert (rules, users) == ([("scram-sha-256",)], [(USER,)])


def test_valkey_lets_in_its_password_alone(service: Service) -> None:
    port = state(service).ports["valkey"]
    for command in (b"PING\r\n", b"KEYS *\r\n", b"FLUSHALL\r\n", b"CONFIG GET requirepass\r\n"):
        assert stranger.asked(port, command + b"QUIT\r\n").startswith(b"-NOAUTH")
    # A page's request is no command of Valkey, so Valkey hangs up.
    for headers in (stranger.PAGE, stranger.USER):
        assert stranger.asked(port, stranger.http("POST", "/", headers, b"FLUSHALL\r\n")) == b""


def test_no_process_of_ours_asks_those_ports_for_a_client(service: Service) -> None:
    """The networks that an operator allows do not change this."""
    kept = state(service)
    settings = settings_from(service_env(kept), port=service.port)
    assert settings.own_ports | settings.inner_ports == {service.port, *kept.ports.values()}


def test_the_stores_maintenance_reaches_its_parts_and_complains_of_nothing(
    service: Service,
) -> None:
    log = service.folder / "data" / "logs" / "s3.log"
    until(lambda: "Plugin worker connected" in log.read_text(), "maintenance has its worker")
    assert "connection refused" not in log.read_text().split("Plugin worker connected")[1]
