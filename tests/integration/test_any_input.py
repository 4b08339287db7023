"""No input gives a 500, whether schemathesis makes it from openapi.json or we made it up."""

import http.client
import io
import json
import re
import socket
from collections.abc import Iterator
from contextlib import closing
from typing import Any, Final

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from api.compat.openai.create import NAMES as VIDEO_NAMES
from api.compat.replicate.create import NAMES as PREDICTION_NAMES
from api.compat.replicate.create import OUTER
from api.submit.body import KNOWN, Received, read_create
from shared.errors import AppError
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
from tests.support.schema import OPERATIONS
from tests.support.servers import Servers
from tests.support.stack import Stack, fresh_stack
from tests.support.streams import begun

EXAMPLES: Final = 4
"""The number for each operation, with a key and again without."""

KEYS: Final = {"with a key": {"Authorization": f"Bearer {ADMIN_KEY}"}, "without a key": {}}
MAY_FAIL: Final = {502, 503, 504}
"""A receiver does not answer, a part is down, or a clip takes too long."""

STEADY: Final = settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    database=None,
    phases=(Phase.generate,),
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture(scope="module")
def one_open(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway without a key, which lets in every caller on this machine.

    It has a database of its own, because the first key of the other gateway's would close it.
    """
    with fresh_stack(servers, tmp_path_factory.mktemp("open")) as stack:
        quick = stack.settings(generate_timeout_seconds=1, rate_limit="none")
        with running_gateway(quick) as gateway, closing(FakeWorker(stack.settings())) as worker:
            worker.offer(MOVES, MODEL)
            yield gateway


@pytest.fixture(scope="module")
def one_locked(module_stack: Stack, one_fake_worker: FakeWorker) -> Iterator[Gateway]:
    one_fake_worker.offer(MOVES, MODEL)
    quick = module_stack.settings(
        generate_timeout_seconds=1, rate_limit="none", admin_key=ADMIN_KEY
    )
    with running_gateway(quick) as gateway:
        yield gateway


@pytest.fixture(params=list(KEYS))
def asked(
    request: pytest.FixtureRequest,
    one_open: Gateway,
    one_locked: Gateway,
) -> Gateway:
    """A gateway that gets an admin's key, and one that gets none.

    The rows of earlier tests stay, because hundreds of tests would clear what only a few made.
    """
    return one_locked if request.param == "with a key" else one_open


def check(status: int, kind: str, body: bytes) -> None:
    """Check that an answer is no 500, and that an error is one of ours with a bounded length."""
    assert status < 500 or status in MAY_FAIL, (status, body[:500])
    if status >= 400:
        assert kind == "application/problem+json", (status, kind, body[:500])
        told = json.loads(body)
        assert told["code"]
        assert told["detail"]
        assert len(body) < 4000


def check_answer(answer: requests.Response) -> None:
    if answer.request.method != "HEAD":
        check(answer.status_code, answer.headers.get("Content-Type", ""), answer.content)


# With a key, tests/integration/api/test_openapi_is_true.py sends the same in `make test`.
@pytest.mark.extended
@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.label)
def test_nothing_that_the_description_allows_or_forbids_is_a_500(
    operation: Any, asked: Gateway
) -> None:
    modes = list(schemathesis.GenerationMode)
    cases = st.one_of([operation.as_strategy(generation_mode=mode) for mode in modes])

    @STEADY
    @given(case=cases)
    def send(case: Any) -> None:
        sent = case.as_transport_kwargs(base_url=asked.url)
        sent["headers"] = {**sent.get("headers", {}), **_key_of(asked)}
        try:
            answer = begun(
                asked.http.request(**sent, timeout=30, allow_redirects=False, stream=True)
            )
        except (requests.exceptions.InvalidHeader, UnicodeEncodeError):
            # HTTP itself cannot carry these values.
            return
        check_answer(answer)

    send()


def _key_of(gateway: Gateway) -> dict[str, str]:
    key = gateway.http.headers.get("Authorization")
    return {"Authorization": str(key)} if key else {}


BRACKETS: Final = st.sampled_from(
    ["[]", "[a]", "[url]", "[data]", "[event_types]", "[0]", "[", "]", "[ ]", "[\0]", "[é]", "a"]
)
NAMES: Final = st.builds(
    lambda top, brackets: top + "".join(brackets),
    st.one_of(st.sampled_from(KNOWN), st.text(max_size=8)),
    st.lists(BRACKETS, max_size=6),
)
VALUES: Final = st.one_of(
    st.sampled_from(
        [
            *("", "1", "true", "null", "gif,poster", ",", "1e999", "NaN", "-0", "9" * 5000),
            *("{}", "[]", '{"a": {"b": 1}}', '[["a"]]', "[1", '{"url": null}', '{"\\ud800": 1}'),
            *("http://127.0.0.1", data_uri(b"a"), "\0", "\ud7ff", "٣", "1_0"),
        ]
    ),
    st.text(max_size=20),
)
PAIRS: Final = st.lists(st.tuples(NAMES, VALUES), max_size=6)


@settings(STEADY, max_examples=300)
@given(pairs=PAIRS, file=st.sampled_from([None, b"an image"]))
def test_no_names_of_a_form_are_more_than_refused(
    pairs: list[tuple[str, str]], file: bytes | None
) -> None:
    refused: AppError | None = None
    try:
        read_create(Received(pairs, {} if file is None else {"image": file}, None))
    except AppError as error:
        refused = error
    if refused is not None:
        assert 400 <= refused.status < 500
        assert len(refused.message) < 2000


def test_no_form_is_a_500(asked: Gateway) -> None:
    @settings(STEADY, max_examples=30)
    @given(pairs=PAIRS, is_escaped=st.booleans())
    def send(pairs: list[tuple[str, str]], is_escaped: bool) -> None:
        if is_escaped:
            check_answer(asked.post("/v1/jobs", data=pairs))
        else:
            parts = [(name.replace("\r", "").replace("\n", ""), value) for name, value in pairs]
            files: Any = [(name, (None, value)) for name, value in parts if name]
            check_answer(asked.post("/v1/jobs", files=files or {"image": b""}))

    send()


JSON: Final = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        st.text(max_size=8),
        st.sampled_from([10**18, 10**400, -(10**4000), 1e308, "\0", "9" * 5000, "1e999"]),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=5,
)


PHOTO: Final = data_uri(photo_png())
CREATES: Final = st.dictionaries(st.sampled_from(KNOWN), JSON, max_size=5)


def test_no_json_of_a_create_is_a_500(asked: Gateway) -> None:
    @settings(STEADY, max_examples=40)
    @given(values=CREATES, has_image=st.booleans())
    def send(values: dict[str, Any], has_image: bool) -> None:
        image = {"image": PHOTO} if has_image else {}
        body = json.dumps({**values, **image}).encode()
        headers = {"Content-Type": "application/json"}
        check_answer(asked.post("/v1/jobs", data=body, headers=headers))

    send()


FOREIGN: Final = {
    "/v1/videos": (VIDEO_NAMES, "input_reference"),
    "/compat/replicate/v1/predictions": (PREDICTION_NAMES, "image"),
}


@pytest.mark.parametrize("path", FOREIGN)
def test_no_json_of_another_protocol_is_a_500(asked: Gateway, path: str) -> None:
    names, image = FOREIGN[path]
    sent = st.dictionaries(st.sampled_from(sorted(names.all)), JSON, max_size=5)
    outer = st.dictionaries(st.sampled_from(sorted(OUTER - {"input"})), JSON, max_size=3)

    @settings(STEADY, max_examples=40)
    @given(values=sent, beside=outer, has_image=st.booleans())
    def send(values: dict[str, Any], beside: dict[str, Any], has_image: bool) -> None:
        values = {**values, image: PHOTO} if has_image else values
        body = values if path == "/v1/videos" else {"version": MOVES.name, **beside}
        if path != "/v1/videos":
            body["input"] = values
        headers = {"Content-Type": "application/json"}
        check_answer(asked.post(path, data=json.dumps(body).encode(), headers=headers))

    send()


DIGITS: Final = b"9" * 5000
HEADERS: Final = {
    "Content-Length of zeros": b"Content-Length: " + b"0" * 4400,
    "Content-Length of nines": b"Content-Length: " + DIGITS,
    "Content-Length of letters": b"Content-Length: \xd9\xa3",
    "Content-Length below zero": b"Content-Length: -1",
    "two Content-Lengths": b"Content-Length: 1\r\nContent-Length: 2",
    "Range": b"Range: bytes=" + DIGITS + b"-" + DIGITS,
    "Range of the end": b"Range: bytes=-" + DIGITS,
    "Prefer": b"Prefer: wait=" + DIGITS,
    "If-None-Match": b'If-None-Match: "\xff", W/, *' + b'"' * 999,
    "If-Range": b"If-Range: \xff",
    "Idempotency-Key": b"Idempotency-Key: \xff" + b"a" * 5000,
    "Authorization": b"Authorization: Bearer \xff" + b"a" * 5000,
    "Authorization without end": b"Authorization: " + b"Bearer " * 5000,
    "X-Request-ID": b"X-Request-ID: \xff" + b"a" * 5000,
    "Content-Type": b"Content-Type: \xff; boundary*=idna''%ff" + b"; a=b" * 1000,
    "Origin": b"Origin: http://x:" + DIGITS,
    "Origin of a name": b"Origin: http://[::1%\xff]\xff" + b"a" * 5000,
    "Sec-Fetch-Site": b"Sec-Fetch-Site: \xff" + b"a" * 5000,
    "Accept": b"Accept: " + b"\xff,;q=" * 999,
    "a forwarded name": b"X-Forwarded-" + b"a" * 5000 + b": \xff",
}
TARGETS: Final = {
    "an id": b"/v1/jobs/job_" + b"a" * 5000,
    "an id of other digits": b"/v1/jobs/job_" + b"%D9%A3" * 32,
    "a model": b"/v1/models/" + b"%F0%9F%98%80" * 2000,
    "a model of NUL": b"/v1/models/%00%ff",
    "raw bytes": b"/v1/models/\xff\xfe",
    "a path": b"/" + b"a" * 30_000,
    "dots": b"/outputs/" + b"..%2f" * 2000 + b".mp4",
    "a wait": b"/v1/jobs/job_" + b"0" * 32 + b"?wait=" + DIGITS,
    "a limit": b"/v1/jobs?limit=" + DIGITS,
    "a limit below zero": b"/v1/jobs?limit=-" + DIGITS,
    "a limit of other digits": b"/v1/jobs?limit=%D9%A3",
    "a limit without end": b"/v1/jobs?limit=1e999&limit=NaN",
    "a cursor": b"/v1/jobs?after=" + b"%00" * 3000,
    "a batch": b"/v1/jobs?batch_id=batch_" + b"%D9%A3" * 16,
    "a batch of zeros": b"/v1/jobs?batch_id=" + b"-" * 5000,
    "an unknown name": b"/v1/jobs?" + b"a" * 30_000 + b"=1",
    "raw names": b"/v1/jobs?\xff=\xfe",
    "metadata": b"/v1/jobs?" + b"&".join(b"metadata[%d]=1" % n for n in range(3000)),
    "metadata without an end": b"/v1/jobs?metadata[=1",
    "metadata of nothing": b"/v1/jobs?metadata[]=1&metadata=1",
    "metadata's long name": b"/v1/jobs?metadata[" + b"a" * 5000 + b"]=1",
    "half a character": b"/v1/jobs?model=%ED%A0%80&metadata[a]=%ED%A0%80",
    "a status": b"/v1/jobs?status=" + b"%00" * 999,
    "a variant": b"/v1/jobs/job_" + b"0" * 32 + b"/content?variant=" + b"a" * 5000,
    "a delivery's job": b"/v1/webhook_endpoints/default/deliveries?job_id=" + b"a" * 5000,
    "an absolute URL": b"http://127.0.0.1:99999999999/v1/jobs",
    "no URL": b"//\xff@[::1%25/v1/jobs",
    "everything": b"*",
    "a folder": b"/docs/ui/" + b"%00" * 99,
}
BODIES: Final = {
    "a chunk of too many digits": b"f" * 5000 + b"\r\n",
    "a chunk of no digits": b"zz\r\n",
    "a chunk with a word": b"1;" + b"a" * 5000 + b"\r\nx\r\n0\r\n\r\n",
    "a chunk of nothing": b"0\r\n" + b"a: b\r\n" * 500 + b"\r\n",
}


@pytest.mark.parametrize("name", HEADERS)
@pytest.mark.parametrize("target", ["GET /v1/jobs", "POST /v1/jobs", "GET /livez", "PUT /a"])
def test_no_header_is_a_500(asked: Gateway, name: str, target: str) -> None:
    _exchange(asked, f"{target} HTTP/1.1\r\n".encode(), HEADERS[name])


@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.parametrize("method", [b"GET", b"DELETE"])
def test_no_target_is_a_500(asked: Gateway, name: str, method: bytes) -> None:
    _exchange(asked, method + b" " + TARGETS[name] + b" HTTP/1.1\r\n", b"X: y")


@pytest.mark.parametrize("name", BODIES)
@pytest.mark.parametrize("path", [b"/v1/jobs", b"/v1/webhook_secret/rotate", b"/livez"])
def test_no_framing_is_a_500(asked: Gateway, name: str, path: bytes) -> None:
    chunked = b"Content-Type: application/json\r\nTransfer-Encoding: chunked"
    _exchange(asked, b"POST " + path + b" HTTP/1.1\r\n", chunked, BODIES[name])


def _exchange(gateway: Gateway, line: bytes, header: bytes, body: bytes = b"") -> None:
    """Send bytes unchanged, and check the answer."""
    key = _key_of(gateway).get("Authorization", "")
    lines = [b"Host: 127.0.0.1", b"Connection: close", header]
    lines += [b"Authorization: " + key.encode()] if key else []
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=30) as connection:
        connection.sendall(line + b"\r\n".join(lines) + b"\r\n\r\n" + body)
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        content = answer.read()
    check(answer.status, answer.headers.get("Content-Type", ""), content)
    if answer.status != 400:
        assert answer.headers["X-Request-ID"]


@pytest.mark.parametrize(
    "charset", ["utf-7", "idna", "punycode", "undefined", "unicode_escape", "utf-16", "a" * 999]
)
def test_no_charset_of_a_form_is_a_500(asked: Gateway, charset: str) -> None:
    body = io.BytesIO()
    for name in ("prompt", "image"):
        head = f'--b\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n'
        body.write(head.encode() + b"+2AA- \\ud800 xn--\xff\r\n")
    headers = {"Content-Type": f"multipart/form-data; charset={charset}; boundary=b"}
    answer = asked.post("/v1/jobs", data=body.getvalue() + b"--b--\r\n", headers=headers)
    check_answer(answer)
    assert (answer.status_code, answer.json()["param"]) == (422, "Content-Type")


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/jobs", {"model": "m" * 2**20, "image": "data:image/png;base64,AAAA"}),
        ("/v1/jobs", {"n" * 2**20: 1}),
        ("/v1/jobs", {"prompt": ["p" * 2**20]}),
        ("/v1/jobs", {"webhook": {"url": "https://" + "h" * 2**20}}),
        ("/v1/jobs", {"metadata": {"k" * 2**20: ""}, "image": "data:image/png;base64,AAAA"}),
        ("/v1/webhook_endpoints", {"name": "n" * 60_000}),
        ("/v1/webhook_endpoints", {"n" * 60_000: ""}),
        ("/v1/webhook_endpoints", {"name": "a", "url": "u" * 60_000, "event_types": []}),
    ],
    ids=lambda value: str(value)[:30],
)
def test_what_was_sent_is_not_sent_back_or_logged(
    asked: Gateway, caplog: pytest.LogCaptureFixture, path: str, body: dict[str, Any]
) -> None:
    with caplog.at_level("DEBUG"):
        answer = asked.post(path, json=body)
    check_answer(answer)
    assert 400 <= answer.status_code < 500
    logged = [record.getMessage() for record in caplog.records]
    said = [answer.text, *answer.headers.values(), *logged]
    assert [text[:200] for text in said if re.search(r"([mnpkhu])\1{100}", text)] == []
