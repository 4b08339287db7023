"""Every route has a limit for its body; more is refused unread or while it arrives."""

import asyncio
import http.client
import json
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from api import route as routing
from api.app import create_app
from api.body_limit import LARGEST, SMALL_BODY_BYTES, body_limit
from api.route import Route
from api.submit import submit
from shared.settings import Settings
from tests.support.gateway import (
    ADMIN_KEY,
    MODEL,
    MOVES,
    FakeWorker,
    Gateway,
    data_uri,
    photo_png,
    running_gateway,
)
from tests.support.routes import leaves
from tests.support.stack import Stack

MAX_UPLOAD_BYTES = 1024 * 1024
IMAGE = MAX_UPLOAD_BYTES * 3 // 2 + 1024 * 1024

LIMITS = {
    "POST /v1/jobs": IMAGE,
    "POST /v1/batches": LARGEST.bytes,
    "POST /generate": IMAGE,
    "POST /v1/uploads/{upload_id}/content": IMAGE,
    "POST /v1/videos": IMAGE,
    "POST /compat/replicate/v1/predictions": IMAGE,
    "POST /compat/replicate/v1/models/{owner}/{model}/predictions": IMAGE,
    "POST /compat/replicate/v1/files": IMAGE,
}
READ_NO_BODY = {"GET /openapi.json", "HEAD /openapi.json", "GET /docs/ui", "GET /web"}
"""FastAPI and Starlette serve these by themselves."""

TAKE_JSON = [
    "/v1/webhook_endpoints",
    f"/v1/webhook_endpoints/we_{'0' * 32}",
    f"/v1/webhook_endpoints/we_{'0' * 32}/rotate_secret",
    f"/v1/webhook_endpoints/we_{'0' * 32}/test",
    f"/v1/webhook_endpoints/we_{'0' * 32}/replay",
    "/v1/webhook_secret/rotate",
    "/v1/keys",
    "/v1/admin/pause",
    "/v1/admin/resume",
    f"/v1/keys/key_{'0' * 32}/rotate",
]
TAKE_NONE = [f"/v1/jobs/job_{'0' * 32}/cancel", "/livez"]


@pytest.fixture(scope="module")
def one_admin(module_stack: Stack, one_fake_worker: FakeWorker) -> Iterator[Gateway]:
    one_fake_worker.offer(MOVES, MODEL)
    settings = module_stack.settings(
        admin_key=ADMIN_KEY, max_upload_bytes=MAX_UPLOAD_BYTES, rate_limit="none"
    )
    with running_gateway(settings) as gateway:
        yield gateway


@pytest.fixture
def admin(one_admin: Gateway) -> Gateway:
    """A gateway that gets the admin's key. The few rows that tests make stay."""
    return one_admin


def test_a_route_that_takes_more_than_a_small_body_is_listed_here() -> None:
    settings = Settings(_env_file=None, max_upload_bytes=MAX_UPLOAD_BYTES)
    limits: dict[str, int | None] = {}
    for found in leaves(create_app(settings).routes):
        original = getattr(found, "original_route", found)
        limit = body_limit(found.endpoint, settings).bytes if isinstance(original, Route) else None
        limits |= {f"{method} {found.path}": limit for method in found.methods or {"GET"}}
    larger = {route: limit for route, limit in limits.items() if limit != SMALL_BODY_BYTES}
    assert larger == {**LIMITS, **dict.fromkeys(READ_NO_BODY)}


@pytest.mark.parametrize("path", [*TAKE_JSON, *TAKE_NONE, "/v1/jobs", "/generate"])
def test_a_body_that_declares_more_than_its_route_takes_is_refused_unread(
    admin: Gateway, path: str
) -> None:
    limit = IMAGE if path in ("/v1/jobs", "/generate") else SMALL_BODY_BYTES
    method = "GET" if path == "/livez" else "POST"
    with socket.create_connection(("127.0.0.1", admin.port), timeout=30) as connection:
        connection.sendall(
            f"{method} {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {ADMIN_KEY}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {limit + 1}\r\n\r\n{{".encode()
        )
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        body = json.loads(answer.read())
    assert (answer.status, body["code"]) == (413, "body_too_large")
    assert f"larger than {limit} bytes" in body["detail"]


@pytest.mark.parametrize("path", [*TAKE_JSON, "/v1/jobs", "/generate"])
def test_a_body_that_grows_longer_than_its_route_takes_is_cut(admin: Gateway, path: str) -> None:
    limit = IMAGE if path in ("/v1/jobs", "/generate") else SMALL_BODY_BYTES
    pieces = (b" " * 16384 for _ in range(limit // 16384 + 1))
    answer = admin.post(path, data=pieces, headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")


@pytest.mark.parametrize("path", TAKE_JSON)
def test_a_body_as_long_as_its_route_takes_is_read(admin: Gateway, path: str) -> None:
    body = b'{"nothing": "' + b"x" * (SMALL_BODY_BYTES - 15) + b'"}'
    answer = admin.post(path, data=body, headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["code"]) == (422, "unknown_parameter")


@pytest.mark.parametrize("path", [*TAKE_JSON, "/v1/jobs", "/generate"])
@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"[" + b"[]," * 101 + b"[]]", "102 entries; a list or object takes 100 at most"),
        (b'{"a":' * 10 + b"1" + b"}" * 10, "nested deeper than 8"),
        (b"[" * 60_000, "not JSON"),
        (b'{"a": 1e999, "b": NaN}', "not JSON"),
        (b'{"a": "\\ud800"}', "not JSON"),
        (b'{"a": ' + b"9" * 5000 + b"}", "not JSON"),
        (b"\xff", "not JSON"),
        (b"{", "not JSON"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_costly_and_broken_json_is_refused_on_every_route(
    admin: Gateway, path: str, body: bytes, reason: str
) -> None:
    answer = admin.post(path, data=body, headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")
    assert reason in answer.json()["detail"]


@pytest.mark.parametrize("path", TAKE_JSON)
def test_json_is_read_and_checked_off_the_loop(
    admin: Gateway, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_loop = _watch(monkeypatch, routing, "read_json")
    admin.post(path, json={"keep_old": True})
    assert on_loop == [False]


def test_a_create_is_read_and_checked_off_the_loop(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_loop = _watch(monkeypatch, submit, "read_create")
    gateway.create()
    gateway.post("/v1/jobs", json={"image": data_uri(photo_png())})
    gateway.post("/v1/jobs", data={"image": data_uri(photo_png())})
    assert on_loop == [False] * 3


@pytest.mark.parametrize("path", TAKE_JSON)
@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", None])
def test_a_body_that_is_said_to_be_no_json_is_refused(
    admin: Gateway, path: str, kind: str | None
) -> None:
    answer = admin.post(path, data=b"{}", headers={"Content-Type": kind} if kind else {})
    assert (answer.status_code, answer.json()["param"]) == (415, "Content-Type")


def test_sixteen_kilobytes_of_wrong_entries_hold_nobody(admin: Gateway) -> None:
    """Such a list once blocked the gateway for 23 s; each route that takes one gets it here."""
    wrong = b"[" + b"1," * 7999 + b"1]"
    began = time.monotonic()
    for path, name in (("/v1/webhook_endpoints", b"event_types"), ("/v1/jobs", b"outputs")):
        body = b'{"' + name + b'":' + wrong + b"}"
        answer = admin.post(path, data=body, headers={"Content-Type": "application/json"})
        assert (answer.status_code, answer.json()["param"]) == (422, name.decode())
    assert time.monotonic() - began < 10


def _watch(monkeypatch: pytest.MonkeyPatch, module: Any, name: str) -> list[bool]:
    """Return a list that records for each call whether an event loop made it."""
    seen: list[bool] = []
    original: Callable[..., Any] = getattr(module, name)

    def watched(*given: Any, **named: Any) -> Any:
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            seen.append(False)
        else:
            seen.append(True)
        return original(*given, **named)

    monkeypatch.setattr(module, name, watched)
    return seen
