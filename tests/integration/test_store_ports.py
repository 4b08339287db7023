"""The store's inner ports accept only clients with the store's own certificate."""

import ssl
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from local.certificates import FILES, PAIR, keep_certificates
from local.processes.process import Process
from local.servers.seaweed import TLS, seaweed
from local.servers.services import ADMIN_OFFSET, INNER, choose_ports, service_env
from local.state import State
from shared.certificates import LIFE, Certificates
from shared.errors import AppError
from shared.storage import Storage
from tests.support import stranger
from tests.support.ports import service_ports
from tests.support.processes import until
from tests.support.servers import settings_from
from tests.support.stack import Stack

pytestmark = pytest.mark.long

CLIP = bytes(range(256)) * 64
KEY = "videos/a/1.mp4"
STORED = f"/buckets/stillreel/{KEY}"
FORM = b'--x\r\nContent-Disposition: form-data; name="f"; filename="1"\r\n\r\nno clip\r\n--x--'
FORM_TYPE = "Content-Type: multipart/form-data; boundary=x\r\n"
ATTACKS = {
    "master": [
        ("GET", "/col/delete?collection=stillreel"),
        ("POST", "/col/delete?collection=stillreel"),
        ("GET", "/dir/assign"),
        ("GET", "/dir/status"),
        ("GET", "/vol/vacuum?garbageThreshold=0"),
        ("POST", "/submit"),
    ],
    "volume": [("GET", "/status"), ("GET", "/1,01"), ("DELETE", "/1,01"), ("POST", "/1,01")],
    "filer": [
        ("GET", "/buckets/?limit=5"),
        ("GET", STORED),
        ("POST", STORED),
        ("PUT", STORED),
        ("DELETE", STORED),
        ("DELETE", "/buckets/stillreel?recursive=true"),
        ("OPTIONS", STORED),
    ],
    "admin": [("GET", "/"), ("GET", "/health"), ("POST", "/api/volumes/vacuum")],
}


@pytest.fixture
def clip(stack: Stack) -> Iterator[None]:
    """A clip in the store, which must be unchanged when the test ends."""
    storage = stack.servers.storage
    storage.put(KEY, CLIP, content_type="video/mp4")
    yield
    assert storage.get(KEY) == CLIP
    storage.put("another", b"kept", content_type="video/mp4")
    assert storage.get("another") == b"kept"


def strangers(folder: Path) -> dict[str, ssl.SSLContext | None]:
    return {
        "plain": None,
        "without a certificate": stranger.without_certificate(),
        "with a forged certificate": stranger.with_anothers_certificate(folder),
    }


@pytest.mark.usefixtures("clip")
@pytest.mark.parametrize("server", ATTACKS)
@pytest.mark.parametrize("headers", [stranger.PAGE, stranger.USER], ids=["page", "user"])
def test_neither_a_page_nor_another_user_reads_writes_or_deletes(
    stack: Stack, tmp_path: Path, server: str, headers: str
) -> None:
    port = stack.servers.state.ports[server]
    for how, tls in strangers(tmp_path).items():
        for method, path in ATTACKS[server]:
            request = stranger.http(method, path, headers + FORM_TYPE, FORM)
            answer = stranger.asked(port, request, tls)
            # If a connection is closed with an unread body, the refusal may be lost.
            assert answer == b"" or stranger.is_refusal(answer), (how, method, path)


@pytest.mark.usefixtures("clip")
def test_no_inner_port_speaks_grpc_with_a_stranger(stack: Stack, tmp_path: Path) -> None:
    for name in INNER:
        port = stack.servers.state.ports[name]
        for how, tls in strangers(tmp_path).items():
            answer = stranger.asked(port, stranger.HTTP2, tls)
            assert answer == b"" or stranger.is_refusal(answer), (name, how)


def test_with_the_stores_own_certificate_the_same_is_answered(stack: Stack) -> None:
    """The paths that strangers are refused do exist."""
    ours = stranger.with_our_certificate(stack.servers.folder / TLS)
    ports, storage = stack.servers.state.ports, stack.servers.storage
    storage.put(KEY, CLIP, content_type="video/mp4")
    status = stranger.asked(ports["master"], stranger.http("GET", "/dir/status"), ours)
    assert status.startswith(b"HTTP/1.1 200")
    # Tokens are needed too: with the certificate alone nobody reads or deletes in the filer.
    for method in ("GET", "DELETE"):
        answer = stranger.asked(ports["filer"], stranger.http(method, STORED), ours)
        assert answer.startswith(b"HTTP/1.1 401"), method
    assert storage.get(KEY) == CLIP
    for name in INNER:
        if name.endswith(".grpc"):
            # A server that speaks HTTP/2 begins with a frame of settings.
            assert stranger.asked(ports[name], stranger.HTTP2, ours, enough=4)[3:4] == b"\x04"


def test_the_stores_maintenance_finds_ports_that_moved_and_logs_no_flood(stack: Stack) -> None:
    log = stack.s3.part.log
    ports = stack.servers.state.ports
    assert ports["admin.grpc"] == ports["admin"] + ADMIN_OFFSET
    until(lambda: "Plugin worker connected" in log.read_text(), "maintenance has its worker")
    stack.s3.kill()
    begun = log.stat().st_size
    stack.s3.restart()
    until(
        lambda: "Plugin worker connected" in log.read_bytes()[begun:].decode(),
        "maintenance has its worker again",
    )


def test_ports_of_an_older_version_are_kept_but_the_one_that_maintenance_misses() -> None:
    old = service_ports() | {"admin.grpc": 12939}
    new = choose_ports(old)
    assert new == old | {"admin.grpc": old["admin"] + ADMIN_OFFSET}


def test_a_store_that_runs_shows_a_renewed_certificate(tmp_path: Path) -> None:
    """The renewal is that of `make run`: it keeps the authority, and nothing is lost."""
    (tmp_path / "logs").mkdir()
    state = State(ports=service_ports())
    part = seaweed(tmp_path, state)
    quick = replace(part, env={**part.env, "WEED_TLS_CERT_REFRESH_INTERVAL": "300ms"})
    tls = tmp_path / TLS
    process = Process(quick)
    try:
        process.wait_ready()
        storage = Storage(settings_from(service_env(state)))
        storage.put(KEY, CLIP, content_type="video/mp4")
        until(lambda: None not in _shown(state, tls), "each inner port is open")
        before = _shown(state, tls)
        assert len(before) == 1

        # A clock that was far ahead drew this certificate, so it is not valid yet.
        kept = Certificates(*((tls / name).read_text() for name in FILES))
        (tls / PAIR).write_text(kept.renewed(datetime.now(UTC) + 0.6 * LIFE).pair)
        keep_certificates(tls, is_running=True)

        until(lambda: not _shown(state, tls) & before, "each port shows the new certificate")
        assert storage.get(KEY) == CLIP
        storage.put("another", CLIP, content_type="video/mp4")
        assert storage.get("another") == CLIP
    finally:
        process.stop()


def _shown(state: State, tls: Path) -> set[bytes | None]:
    """Return the certificates that the inner ports show."""
    context = stranger.with_our_certificate(tls)
    return {stranger.certificate_of(state.ports[name], context) for name in INNER}


def test_a_store_whose_ports_are_not_sealed_does_not_count_as_ready(tmp_path: Path) -> None:
    """SeaweedFS opens every port to everybody if it does not find its security.toml."""
    (tmp_path / "logs").mkdir()
    state = State(ports=service_ports())
    part = seaweed(tmp_path, state)
    assert part.prepare is not None
    part.prepare()
    (tmp_path / "s3" / "security.toml").unlink()
    process = Process(replace(part, prepare=None))
    try:
        storage = Storage(settings_from(service_env(state)))
        until(lambda: _keeps(storage), "it keeps objects")
        assert part.ready is not None
        assert not part.ready()
    finally:
        process.stop()


def _keeps(storage: Storage) -> bool:
    try:
        storage.put(KEY, CLIP, content_type="video/mp4")
    except AppError:
        return False
    return True
