"""Our one Redis client verifies `rediss://`; Celery itself never connects to Redis."""

import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
import trustme

from shared import bell

ANSWERS = {b"PING": b"+PONG\r\n", b"LLEN": b":0\r\n"}


class Endpoint:
    """Answers as a Redis behind TLS does, and records what it hears."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._context = context
        self.heard: list[bytes] = []
        self.port = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection:
            connection.settimeout(10)
            with self._context.wrap_socket(connection, server_side=True) as encrypted:
                while said := encrypted.recv(4096):
                    self.heard.append(said)
                    # Each command of a pipeline begins with its number of words.
                    encrypted.sendall(b"".join(map(reply, said.split(b"*")[1:])))

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()


def reply(command: bytes) -> bytes:
    words = [word for word in command.upper().split(b"\r\n") if word and word[:1] not in b"$0123"]
    return ANSWERS.get(words[0] if words else b"", b"+OK\r\n")


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def endpoint(authority: trustme.CA) -> Iterator[Endpoint]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    endpoint = Endpoint(context)
    yield endpoint
    endpoint.close()


@pytest.fixture
def known(authority: trustme.CA, tmp_path: Path) -> str:
    """Return the part of a URL that names the authority's file."""
    path = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(path)
    return f"?ssl_ca_certs={path}"


def ask(url: str) -> None:
    with bell.client(url, socket_seconds=5) as client:
        client.ping()


def test_a_certificate_of_a_known_authority_is_taken(endpoint: Endpoint, known: str) -> None:
    ask(f"rediss://:secret@localhost:{endpoint.port}/0{known}")
    assert b"secret" in b"".join(endpoint.heard)


def test_a_certificate_of_nobody_is_refused_before_the_password_is_sent(
    endpoint: Endpoint,
) -> None:
    with pytest.raises(redis.ConnectionError, match="CERTIFICATE_VERIFY"):
        ask(f"rediss://:secret@localhost:{endpoint.port}/0")
    assert endpoint.heard == []


def test_a_certificate_of_another_host_is_refused(endpoint: Endpoint, known: str) -> None:
    with pytest.raises(redis.ConnectionError, match="CERTIFICATE_VERIFY"):
        ask(f"rediss://:secret@127.0.0.1:{endpoint.port}/0{known}")
    assert endpoint.heard == []
