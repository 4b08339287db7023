"""Bodies, names and requests that are too large, wrong or broken off."""

import http.client
import socket
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from PIL import Image
from pydantic import SecretStr

from api.app import create_app
from shared.settings import Settings
from tests.support.gateway import (
    ADMIN_KEY,
    FakeWorker,
    Gateway,
    encoded,
    photo_png,
    running_gateway,
)
from tests.support.photos import cat
from tests.support.processes import until
from tests.support.stack import Stack

MAX_BYTES = 64 * 1024
SLACK = 1024 * 1024


@pytest.fixture(scope="module")
def one_small(module_stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    settings = module_stack.settings(max_upload_bytes=MAX_BYTES, max_pixels=20_000)
    with running_gateway(settings) as gateway:
        yield gateway


@pytest.fixture
def small(one_small: Gateway, fake_worker: FakeWorker) -> Gateway:
    """A gateway whose limits are 64 KiB and 20,000 pixels."""
    return one_small


@pytest.fixture(scope="module")
def one_locked(module_stack: Stack) -> Iterator[Gateway]:
    with running_gateway(module_stack.settings(admin_key=ADMIN_KEY)) as gateway:
        yield gateway


@pytest.fixture
def locked(one_locked: Gateway, fake_worker: FakeWorker) -> Gateway:
    """A gateway that needs a key, and a client that sends it."""
    return one_locked


def test_an_image_that_is_too_large_is_refused(small: Gateway) -> None:
    refused = small.create(image=bytes(MAX_BYTES + 1))
    assert (refused.status_code, refused.json()["code"]) == (413, "image_too_large")
    assert f"the limit is {MAX_BYTES}" in refused.json()["detail"]


def test_an_image_with_too_many_pixels_is_refused(small: Gateway) -> None:
    refused = small.create(image=photo_png(size=(200, 101)))
    assert (refused.status_code, refused.json()["code"]) == (413, "image_too_large")
    assert "200 x 101" in refused.json()["detail"]
    assert small.create(image=photo_png(size=(200, 100))).status_code == 202


def test_a_body_that_declares_too_much_is_refused_unread(small: Gateway) -> None:
    with socket.create_connection(("127.0.0.1", small.port), timeout=60) as connection:
        connection.sendall(
            b"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            b"Content-Length: 99999999999\r\n\r\n{"
        )
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        assert answer.status == 413
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert b"body_too_large" in answer.read()


@pytest.mark.parametrize(
    "content_type", ["application/json", "multipart/form-data; boundary=b", "text/plain"]
)
def test_a_chunked_body_is_cut_when_it_has_grown_too_large(
    small: Gateway, content_type: str
) -> None:
    start = b'--b\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n'
    sent = 0

    def endless() -> Iterator[bytes]:
        nonlocal sent
        yield start if "multipart" in content_type else b"{"
        while sent < 100 * SLACK:
            sent += SLACK // 4
            yield b" " * (SLACK // 4)

    with socket.create_connection(("127.0.0.1", small.port), timeout=60) as connection:
        connection.sendall(
            f"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nContent-Type: {content_type}\r\n"
            "Transfer-Encoding: chunked\r\n\r\n".encode()
        )
        connection.setblocking(False)
        answer = b""
        for piece in endless():
            connection.setblocking(True)
            connection.sendall(b"%x\r\n%s\r\n" % (len(piece), piece))
            connection.setblocking(False)
            try:
                answer += connection.recv(65536)
            except BlockingIOError:
                continue
            break
    status = int(answer.split(b" ", 2)[1])
    assert status == (415 if content_type == "text/plain" else 413)
    assert sent <= 20 * SLACK


def test_clients_that_send_far_too_much_can_read_the_refusal(small: Gateway) -> None:
    for image in (bytes(8 * SLACK), iter([bytes(SLACK)] * 8)):
        answer = small.post("/v1/jobs", data=image, headers={"Content-Type": "application/json"})
        assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")


@pytest.mark.parametrize(
    ("content_type", "body", "status"),
    [
        ("application/json", b"", 422),
        ("application/json", b"{", 422),
        ("application/x-www-form-urlencoded", b"prompt=x", 422),
        ("application/x-www-form-urlencoded", b"\xff\xfe%%%&&==", 422),
        ("multipart/form-data", b"--b\r\n", 422),
        ("multipart/form-data; boundary=b", b"", 422),
        ("multipart/form-data; boundary=b", b"no boundary here", 422),
        ("multipart/form-data; boundary=b", b"--b\r\nContent-Dis", 422),
        ("multipart/form-data; boundary=b", b"--b\r\nX: y\r\n\r\nbody\r\n--b--\r\n", 422),
        ("multipart/form-data; charset=nonsense; boundary=b", b"--b--\r\n", 422),
        ("text/plain", b"hello", 415),
        ("image/png", photo_png(), 415),
        ("", b"hello", 415),
    ],
)
def test_a_body_that_cannot_be_read_is_the_clients_error(
    gateway: Gateway, content_type: str, body: bytes, status: int
) -> None:
    answer = gateway.post("/v1/jobs", data=body, headers={"Content-Type": content_type})
    assert answer.status_code == status, answer.text
    assert answer.headers["Content-Type"] == "application/problem+json"


def test_parts_beyond_count_or_by_another_name_are_refused(gateway: Gateway) -> None:
    many = [(f"metadata[{n}]", (None, "x")) for n in range(10_000)]
    two = [("image", ("a", photo_png())), ("image", ("b", photo_png()))]
    other = [("drawing", ("a", photo_png()))]
    for files, reason in ((many, "fields"), (two, "sent twice"), (other, "name it image")):
        answer = gateway.post("/v1/jobs", files=files)
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")
        assert reason in answer.json()["detail"]


def test_a_client_that_hangs_up_while_it_sends_leaves_nothing(
    small: Gateway, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, fake_worker: FakeWorker
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    body = encoded_form(bytes(SLACK))
    with socket.create_connection(("127.0.0.1", small.port), timeout=60) as connection:
        connection.sendall(
            b"POST /v1/jobs HTTP/1.1\r\nHost: x\r\n"
            b"Content-Type: multipart/form-data; boundary=b\r\n"
            + f"Content-Length: {len(body)}\r\n\r\n".encode()
            + body[: len(body) // 2]
        )
    until(lambda: 'status="499"' in small.get("/metrics").text, "the hang-up is counted")
    assert list(tmp_path.iterdir()) == []
    assert small.get("/v1/jobs").json()["data"] == []


def test_no_upload_leaves_a_temporary_file(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    large = encoded(Image.fromarray(cat()).resize((1600, 1064)), "PNG", compress_level=0)
    assert len(large) > 2 * SLACK  # A part of more than one mebibyte goes to a file.
    assert gateway.create(image=large).status_code == 202
    assert gateway.create(image=bytes(3 * SLACK)).status_code == 415
    assert list(tmp_path.iterdir()) == []


def encoded_form(image: bytes) -> bytes:
    head = b'--b\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\n\r\n'
    return head + image + b"\r\n--b--\r\n"


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nowhere", 404, "not_found"),
        ("GET", "/v1/jobs/", 404, "not_found"),
        ("PUT", "/v1/jobs", 405, "method_not_allowed"),
        ("POST", "/livez", 405, "method_not_allowed"),
        ("PROPFIND", "/v1/jobs", 405, "method_not_allowed"),
        ("GET", "/docs/ui/../../../../etc/passwd", 404, "not_found"),
        ("GET", "/outputs/..%2f..%2fetc%2fpasswd", 404, "not_found"),
    ],
)
def test_what_is_not_there_is_a_problem_too(
    gateway: Gateway, method: str, path: str, status: int, code: str
) -> None:
    answer = gateway.http.request(method, f"{gateway.url}{path}", timeout=60)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer.headers["Content-Type"] == "application/problem+json"


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", "/v1/jobs", "GET, POST"),
        ("PUT", "/v1/jobs/job_1", "GET, DELETE"),
        ("POST", "/docs/ui/swagger-ui.css", "GET, HEAD"),
        ("PROPFIND", "/livez", "GET, HEAD"),
    ],
)
def test_a_method_that_a_path_does_not_take_is_told_all_that_it_takes(
    gateway: Gateway, method: str, path: str, allowed: str
) -> None:
    answer = gateway.http.request(method, f"{gateway.url}{path}", timeout=60)
    assert (answer.status_code, answer.headers["Allow"]) == (405, allowed)
    assert answer.json()["detail"] == f"{path} does not take {method}, but {allowed}"


def test_the_unforeseen_is_a_500_that_tells_nothing_but_its_request_id() -> None:
    settings = Settings(
        _env_file=None,
        admin_key=SecretStr(ADMIN_KEY),
        database_url=SecretStr("postgresql+psycopg://nobody@127.0.0.1:9/nothing"),
        redis_url=SecretStr("redis://127.0.0.1:9/0"),
        secret=SecretStr("s" * 32),
    )
    app = create_app(settings)

    def explode() -> None:
        raise RuntimeError("the password is hunter2")

    app.add_api_route("/explode", explode)
    headers = {"X-Request-ID": "trace-8", "Authorization": f"Bearer {ADMIN_KEY}"}
    with TestClient(app) as client:
        answer = client.get("/explode", headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (500, "internal")
    assert answer.json()["request_id"] == answer.headers["X-Request-ID"] == "trace-8"
    assert answer.json()["error"]["type"] == "server_error"
    assert "hunter2" not in answer.text


@pytest.mark.parametrize(
    "hosts",
    [
        ("[",),
        ("a b",),
        ("x:y:z",),
        ('"><script>',),
        ("a/../b",),
        ("one.example", "two.example"),
        (),
    ],
)
def test_a_malformed_doubled_or_missing_host_gives_relative_links(
    locked: Gateway, hosts: Sequence[str]
) -> None:
    job = locked.created()
    path = f"/v1/jobs/{job['id']}"
    locked.post(f"{path}/cancel")
    lines = [f"POST {path}/retry HTTP/1.1", *(f"Host: {host}" for host in hosts)]
    lines += [f"Authorization: Bearer {ADMIN_KEY}", "\r\n"]
    with socket.create_connection(("127.0.0.1", locked.port), timeout=60) as connection:
        connection.sendall("\r\n".join(lines).encode())
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        assert answer.status == 202
        assert str(answer.getheader("Location")).startswith("/v1/jobs/job_")


def test_forwarded_headers_are_not_believed(locked: Gateway) -> None:
    headers = {"X-Forwarded-Host": "evil.example", "X-Forwarded-Proto": "https"}
    assert locked.create(headers=headers).headers["Location"].startswith(f"{locked.url}/v1/")


def test_public_url_is_where_links_begin(module_stack: Stack, fake_worker: FakeWorker) -> None:
    settings = module_stack.settings(public_url="https://video.example.org/stills")
    with running_gateway(settings) as gateway:
        answer = gateway.create()
    assert answer.headers["Location"].startswith("https://video.example.org/stills/v1/jobs/")


def test_a_request_id_goes_in_and_out(gateway: Gateway, fake_worker: FakeWorker) -> None:
    mine = gateway.create(headers={"X-Request-ID": "trace-7"})
    assert mine.headers["X-Request-ID"] == "trace-7"
    assert fake_worker.claim().request_id == "trace-7"
    refused = gateway.get("/nowhere", headers={"X-Request-ID": "a b\tc"})
    assert refused.headers["X-Request-ID"].startswith("req_")
    assert refused.json()["request_id"] == refused.headers["X-Request-ID"]
