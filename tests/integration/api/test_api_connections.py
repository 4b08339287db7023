"""Requests that are slow, cut off or of a false length occupy the gateway only briefly."""

import contextlib
import http.client
import socket
import tempfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from api.middleware.body_timeout import BodyTimeout
from api.server.http_protocol import BoundedProtocol
from tests.support.gateway import FakeWorker, Gateway, beside, data_uri, photo_png, running_gateway
from tests.support.processes import until
from tests.support.stack import Stack

GRACE_SECONDS = 0.5
HEAD = b"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"


class Impatient(BoundedProtocol):
    head_seconds = GRACE_SECONDS


@pytest.fixture(scope="module")
def one_impatient(module_stack: Stack) -> Iterator[Gateway]:
    with contextlib.ExitStack() as opened:
        with pytest.MonkeyPatch.context() as patched:  # The other gateway keeps its timeouts.
            patched.setattr("api.__main__.BoundedProtocol", Impatient)
            patched.setattr(
                "api.middleware.layers.BodyTimeout",
                partial(BodyTimeout, grace_seconds=GRACE_SECONDS),
            )
            gateway = opened.enter_context(running_gateway(module_stack.settings()))
        yield gateway


@pytest.fixture
def impatient(one_impatient: Gateway, fake_worker: FakeWorker) -> Gateway:
    """A gateway that waits half a second where other gateways wait half a minute."""
    return one_impatient


def connected(gateway: Gateway) -> socket.socket:
    return socket.create_connection(("127.0.0.1", gateway.port), timeout=60)


@dataclass(frozen=True)
class Answer:
    status: int
    content_type: str | None
    body: bytes


def answer_of(connection: socket.socket) -> Answer:
    with closing(http.client.HTTPResponse(connection)) as answer:
        answer.begin()
        return Answer(answer.status, answer.headers["Content-Type"], answer.read())


def is_closed(connection: socket.socket) -> bool:
    """Wait until the other side closes, and ignore the bytes that it still sends."""
    try:
        while connection.recv(65536):
            pass
    except ConnectionError:
        pass
    return True


@pytest.mark.parametrize(
    "framing", [b"Content-Length: 9999\r\n\r\n{", b"Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n"]
)
def test_a_body_that_never_ends_is_a_408_and_the_connection_is_closed(
    impatient: Gateway, framing: bytes
) -> None:
    with connected(impatient) as connection:
        connection.sendall(HEAD + framing)
        answer = answer_of(connection)
        assert answer.status == 408
        assert answer.content_type == "application/problem+json"
        assert b'"request_timeout"' in answer.body
        assert b"KiB/s" in answer.body
        assert is_closed(connection)


@pytest.mark.parametrize("start", [b"", b"GET /livez HT", b"GET /livez HTTP/1.1\r\nHost: x\r\n"])
def test_headers_that_do_not_come_end_the_connection(impatient: Gateway, start: bytes) -> None:
    with connected(impatient) as connection:
        connection.sendall(start)
        assert is_closed(connection)


@pytest.mark.parametrize("trickle", [b"G", b"\r\n", b"GET /livez HTTP/1.1\r\nHost"])
def test_a_kept_connection_cannot_trickle_its_next_request(
    impatient: Gateway, trickle: bytes
) -> None:
    with connected(impatient) as connection:
        connection.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
        assert answer_of(connection).status == 200
        connection.sendall(trickle)
        assert is_closed(connection)


def test_a_body_that_was_refused_cannot_go_on_for_ever(impatient: Gateway) -> None:
    with connected(impatient) as connection:
        connection.sendall(HEAD + b"Content-Length: 999999999\r\n\r\n{")
        assert answer_of(connection).status == 413
        connection.sendall(b"{")
        assert is_closed(connection)


CLOSING = pytest.mark.parametrize(
    "version", [b"1.1\r\nConnection: close", b"1.0"], ids=["close", "1.0"]
)
"""The headers of proxies that keep no connection open; nginx sends them by default."""


def large(version: bytes, length: int, token: bytes = b"none") -> bytes:
    """Return the head of a request with a large body; its sender asks the gateway to close."""
    return (
        b"POST /v1/jobs HTTP/%b\r\nHost: x\r\nContent-Type: application/json\r\n"
        b"Authorization: Bearer %b\r\nContent-Length: %d\r\n\r\n" % (version, token, length)
    )


def is_cut(connection: socket.socket) -> bool:
    try:
        connection.sendall(bytes(65536))
    except ConnectionError:
        return True
    return False


@CLOSING
def test_a_refusal_reaches_who_sends_the_whole_body_first(
    gateway: Gateway, version: bytes
) -> None:
    # Only some resets are early enough to destroy the answer, so the test tries five times.
    for _ in range(5):
        with connected(gateway) as connection:
            body = bytes(16 * 2**20)
            # A request through a proxy is never anonymous.
            proxied = b"none\r\nVia: 1.1 proxy"
            connection.sendall(large(version, len(body), proxied) + body)
            assert answer_of(connection).status == 401
            assert is_closed(connection)
    assert gateway.create().status_code == 202


@CLOSING
def test_a_body_that_goes_on_after_its_refusal_is_cut_in_time(
    impatient: Gateway, version: bytes
) -> None:
    with connected(impatient) as connection:
        connection.sendall(large(version, 2**40))
        assert answer_of(connection).status == 413
        until(lambda: is_cut(connection), "it is cut")


@pytest.mark.parametrize(
    ("start", "piece"),
    [
        (b"GET /", b"a" * 4096),
        (b"GET /livez HTTP/1.1\r\nX: ", b"a" * 4096),
        (b"GET /livez HTTP/1.1\r\n", b"X: y\r\n" * 1000),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\nX: ", b"a" * 4096),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\n", b"X: y\r\n" * 1000),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1;" + b"a" * 4096 + b"\r\n{\r\n"),
    ],
    ids=["path", "header", "headers", "trailer", "trailers", "chunk extensions"],
)
def test_what_is_no_body_cannot_fill_the_memory(
    gateway: Gateway, start: bytes, piece: bytes
) -> None:
    sent = 0
    with connected(gateway) as connection:
        connection.sendall(start)
        try:
            while sent < 64 * 2**20:
                connection.sendall(piece)
                sent += len(piece)
        except ConnectionError:
            pass
        assert is_closed(connection)
    # The count includes the bytes that the kernel accepted, besides the 64 KiB.
    assert sent < 16 * 2**20
    assert gateway.get("/livez").status_code == 200


def test_chunks_of_one_byte_are_a_body_like_any_other(gateway: Gateway) -> None:
    text = b'{"image": "' + data_uri(photo_png(size=(240, 160))).encode() + b'"}'
    # In chunks of one byte it takes six times as many bytes, more than any headers may have.
    assert len(text) > 50_000
    with connected(gateway) as connection:
        chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in text)
        connection.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n")
        assert answer_of(connection).status == 202


def test_a_length_that_is_too_short_spoils_only_its_own_connection(gateway: Gateway) -> None:
    with connected(gateway) as connection:
        connection.sendall(HEAD + b'Content-Length: 2\r\n\r\n{}{"seed": 1} is more\r\n\r\n')
        assert answer_of(connection).status in {400, 422}  # The gateway may read either first.
        assert is_closed(connection)
    assert gateway.create().status_code == 202


@pytest.mark.parametrize("length", [b"-1", b"1e3", b"0x10", b"99999999999999999999999", b"1, 2"])
def test_a_length_that_is_none_is_refused(gateway: Gateway, length: bytes) -> None:
    with connected(gateway) as connection:
        connection.sendall(HEAD + b"Content-Length: " + length + b"\r\n\r\n{}")
        assert answer_of(connection).status in {400, 413}


def test_two_framings_at_once_are_refused(gateway: Gateway) -> None:
    with connected(gateway) as connection:
        connection.sendall(
            HEAD + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
        )
        assert answer_of(connection).status == 400


def test_a_body_for_which_the_disk_has_no_room_is_a_503(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    large = bytes(3 * 2**20)
    for answer in (
        gateway.create(image=large),
        gateway.post("/v1/jobs", data=large, headers={"Content-Type": "application/json"}),
    ):
        assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
        assert answer.headers["Retry-After"]
    monkeypatch.undo()
    assert gateway.create().status_code == 202


def test_bodies_that_find_no_memory_wait_for_it_in_files(gateway: Gateway) -> None:
    room = gateway.ports.pools.body_memory.turns
    free = room.free
    with gateway.holding(room, free - 100, owners=4):
        waiting = [
            beside(gateway.create),
            beside(lambda: gateway.post("/v1/jobs", json={"image": data_uri(photo_png())})),
        ]
        until(lambda: len(room._line) == 2, "both are in line")
        assert not any(each.done() for each in waiting)
    assert [each.result(60).status_code for each in waiting] == [202, 202]
    assert gateway.create(image=b"nothing").status_code == 415
    until(lambda: room.free == free, "all of the room is given back")
