"""A request without a good key is refused before its body is read or written to disk."""

import contextlib
import http.client
import socket
import tempfile
from pathlib import Path

import pytest

from tests.support.gateway import Gateway
from tests.support.processes import until
from tests.support.tenants import KeyAdmin

MEBIBYTE = 1024 * 1024
BODY_BYTES = 32 * MEBIBYTE
SENT_BYTES = 2 * MEBIBYTE
"""This is more than a part of a form may have before it goes to a file."""

PATIENCE = 60
MULTIPART = "multipart/form-data; boundary=b"
FORM = b'--b\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\n\r\n'


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/v1/jobs", MULTIPART),
        ("/generate", MULTIPART),
        ("/v1/jobs", "application/json"),
        ("/v1/webhook_endpoints", "application/json"),
        ("/v1/keys", "application/json"),
        ("/v1/nothing", "application/json"),
    ],
)
@pytest.mark.parametrize(
    "authorization", ["", f"Authorization: Bearer sr_{'a' * 12}_{'b' * 43}\r\n"]
)
def test_a_large_body_with_a_bad_key_is_refused_unread(
    key_admin: KeyAdmin,
    tenant_a: Gateway,
    path: str,
    kind: str,
    authorization: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    key_admin.holder(tenant_a, "cms")
    with socket.create_connection(("127.0.0.1", tenant_a.port), timeout=PATIENCE) as connection:
        connection.sendall(request(path, kind, authorization) + FORM)
        answer = http.client.HTTPResponse(connection)
        # Only these few bytes of the body have been sent.
        answer.begin()
        assert answer.status == 401
        assert answer.headers["WWW-Authenticate"] == "Bearer"
        assert b"_api_key" in answer.read()
        with contextlib.suppress(OSError):  # The gateway may have hung up.
            connection.sendall(bytes(SENT_BYTES))
        assert files_in(tmp_path) == []
    assert tenant_a.http.get(f"{tenant_a.url}/livez", timeout=PATIENCE).status_code == 200


def test_the_same_body_with_a_good_key_goes_to_a_file(
    key_admin: KeyAdmin, tenant_a: Gateway, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The check of the folder finds a file here, so it would also find one in the test above."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    _, cms = key_admin.holder(tenant_a, "cms")
    with socket.create_connection(("127.0.0.1", tenant_a.port), timeout=PATIENCE) as connection:
        head = request("/v1/jobs", MULTIPART, f"Authorization: Bearer {cms.text}\r\n")
        connection.sendall(head + FORM + bytes(SENT_BYTES))
        until(lambda: files_in(tmp_path), "the part goes to a file")
    until(lambda: not files_in(tmp_path), "the file goes with its client")


def request(path: str, kind: str, authorization: str) -> bytes:
    """Return the head of a request whose body is large."""
    return (
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\n"
        f"Content-Length: {BODY_BYTES}\r\n{authorization}\r\n"
    ).encode()


def files_in(folder: Path) -> list[str]:
    """Return the files in a folder, and the unnamed files there that this process has open."""
    found = [str(path) for path in folder.iterdir()]
    for number in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            found.append(str(number.readlink()))
    return [name for name in found if name.startswith(str(folder))]
