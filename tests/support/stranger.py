"""A client that reaches a port of this machine without access: a web page, or another user."""

import socket
import ssl
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, TypeAlias

from local.certificates import AUTHORITY, PAIR
from shared.certificates import Certificates

PAGE: Final = (
    "Host: rebound.page.example\r\nOrigin: https://page.example\r\nSec-Fetch-Site: cross-site\r\n"
)
USER: Final = "Host: 127.0.0.1\r\n"
HTTP2: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(3) + b"\x04" + bytes(5)
"""The beginning of a gRPC client: the preface, and an empty SETTINGS frame."""


Address: TypeAlias = int | tuple[str, int] | str
"""A port of loopback, one of another address, or the path of a socket."""


def http(method: str, path: str, headers: str = PAGE, body: bytes = b"") -> bytes:
    """Return a request that asks the server to close the connection with its answer."""
    head = f"{method} {path} HTTP/1.1\r\n{headers}Content-Length: {len(body)}\r\n"
    return f"{head}Connection: close\r\n\r\n".encode() + body


def without_certificate() -> ssl.SSLContext:
    """Return a client that accepts any server and shows no certificate."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def with_anothers_certificate(folder: Path) -> ssl.SSLContext:
    """Return a client with a certificate like ours, from an authority that it made itself."""
    context = without_certificate()
    (folder / "forged.pem").write_text(Certificates.draw(datetime.now(UTC)).pair)
    context.load_cert_chain(folder / "forged.pem")
    return context


def with_our_certificate(tls: Path) -> ssl.SSLContext:
    """Return a client that is let in, because a refusal proves nothing if no service is there."""
    return with_certificate(tls / AUTHORITY, tls / PAIR)


def with_certificate(authority: Path, pair: Path) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=authority)
    context.check_hostname = False  # A container's addresses are in no certificate.
    context.load_cert_chain(pair)
    return context


def asked(
    address: Address, request: bytes, tls: ssl.SSLContext | None = None, *, enough: int = 1 << 20
) -> bytes:
    """Return the answer of a port, or of the socket at a path, until it closes the connection.

    Args:
        enough: after this many bytes it need not have closed.
    """
    got = b""
    try:
        with _connected(address) as plain:
            link = plain if tls is None else tls.wrap_socket(plain, server_hostname="127.0.0.1")
            with link:
                link.sendall(request)
                while len(got) < enough and (part := link.recv(65536)):
                    got += part
    except (ssl.SSLError, ConnectionError, TimeoutError):
        return got
    return got


def _connected(address: Address) -> socket.socket:
    if isinstance(address, int):
        address = ("127.0.0.1", address)
    if isinstance(address, tuple):
        return socket.create_connection(address, timeout=5)
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(5)
    connection.connect(address)
    return connection


def is_refusal(answer: bytes) -> bool:
    """Say whether a TLS port told a plain client so and gave nothing away, to no page either."""
    head, _, body = answer.partition(b"\r\n\r\n")
    return head == b"HTTP/1.0 400 Bad Request" and body == (
        b"Client sent an HTTP request to an HTTPS server.\n"
    )


def certificate_of(port: int, tls: ssl.SSLContext) -> bytes | None:
    """Return the certificate that a port shows, None if it shows none."""
    try:
        with _connected(port) as plain, tls.wrap_socket(plain, server_hostname="127.0.0.1") as it:
            return it.getpeercert(binary_form=True)
    except OSError:
        return None
