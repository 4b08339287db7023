"""Every answer has the status, type and body that openapi.json describes; schemathesis checks."""

import json
from collections.abc import Iterator
from typing import Any, Final
from uuid import uuid4

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.support.gateway import (
    ADMIN_KEY,
    FakeWorker,
    Gateway,
    data_uri,
    photo_png,
    running_gateway,
)
from tests.support.schema import OPERATIONS, SCHEMA
from tests.support.stack import Stack
from tests.support.streams import begun

EXAMPLES: Final = 3
KEY: Final = {"Authorization": f"Bearer {ADMIN_KEY}"}
IMAGE: Final = "data:image/png;base64,iVBORw0KGgo="
CHECKS: Final = [status_code_conformance, content_type_conformance, response_schema_conformance]
MAY_FAIL: Final = {502, 503, 504, 507}

STEADY: Final = settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    database=None,
    phases=(Phase.generate,),
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture(scope="module")
def one_locked(module_stack: Stack) -> Iterator[Gateway]:
    quick = module_stack.settings(
        generate_timeout_seconds=1, rate_limit="none", admin_key=ADMIN_KEY
    )
    with running_gateway(quick) as gateway:
        yield gateway


@pytest.fixture
def locked(one_locked: Gateway, fake_worker: FakeWorker) -> Gateway:
    return one_locked


def check(case: Any, answer: requests.Response) -> None:
    if answer.status_code >= 400 and answer.request.method != "HEAD":
        assert len(answer.content) < 4000, "an error says what it says in few words"
    if answer.status_code not in MAY_FAIL:
        case.validate_response(answer, checks=[not_a_server_error, *CHECKS])


# Without a key, tests/integration/auth/test_access.py asks each route in `make test`.
@pytest.mark.parametrize(
    "has_key",
    [
        pytest.param(True, id="with a key"),
        pytest.param(False, id="without a key", marks=pytest.mark.extended),
    ],
)
@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.label)
def test_every_answer_is_as_described(operation: Any, has_key: bool, locked: Gateway) -> None:
    modes = list(schemathesis.GenerationMode)
    cases = st.one_of([operation.as_strategy(generation_mode=mode) for mode in modes])

    @STEADY
    @given(case=cases)
    def send(case: Any) -> None:
        sent = case.as_transport_kwargs(base_url=locked.url)
        sent["headers"] = {**sent.get("headers", {}), **(KEY if has_key else {})}
        try:
            answer = begun(
                requests.request(**sent, timeout=30, allow_redirects=False, stream=True)
            )
        except (requests.exceptions.InvalidHeader, UnicodeEncodeError):
            return  # HTTP cannot carry these values.
        if not has_key and operation.definition.raw.get("security") != []:
            assert answer.status_code in (401, 413), answer.text
        check(case, answer)

    send()


ABOUT: Final = [each for each in OPERATIONS if "{" in each.path and "file_name" not in each.path]


@pytest.mark.parametrize("operation", ABOUT, ids=lambda operation: operation.label)
def test_every_answer_about_what_is_there_is_as_described(
    operation: Any, locked: Gateway, fake_worker: FakeWorker
) -> None:
    """Send the same requests with the ids of existing jobs, batches, keys and models."""
    names = {name: made for name, made in there(locked, fake_worker).items() if name in BY_ID}
    cases = operation.as_strategy(generation_mode=schemathesis.GenerationMode.POSITIVE)

    @STEADY
    @given(case=cases)
    def send(case: Any) -> None:
        for name in case.path_parameters:
            case.path_parameters[name] = names.get(name, case.path_parameters[name])
        sent = case.as_transport_kwargs(base_url=locked.url)
        sent["headers"] = {**sent.get("headers", {}), **KEY}
        check(case, requests.request(**sent, timeout=30, allow_redirects=False))

    send()


BY_ID: Final = ("job_id", "batch_id", "key_id", "model")


def there(gateway: Gateway, worker: FakeWorker) -> dict[str, str]:
    """Make a succeeded job, an unfinished batch and a key; return their ids and a model's."""
    made = gateway.created(model="moves", headers=KEY)
    worker.complete(worker.claim())
    body = {"items": [{"image": {"data": data_uri(photo_png())}}]}
    batch = requests.post(f"{gateway.url}/v1/batches", json=body, headers=KEY, timeout=30)
    key = requests.post(
        f"{gateway.url}/v1/keys", json={"name": uuid4().hex}, headers=KEY, timeout=30
    )
    return {
        "job_id": made["id"],
        "batch_id": batch.json()["id"],
        "key_id": key.json()["id"],
        "model": "moves",
    }


class Walk:
    """Sends a client's requests, and checks every answer against the description of its route."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self.seen: set[tuple[str, str, int]] = set()

    def ask(
        self, method: str, path: str, *, expect: int = 200, query: str = "", **options: Any
    ) -> Any:
        """Send a request and return its body; `names` fills the parts in `{}` of the path."""
        names = options.pop("names", {})
        operation = SCHEMA[path][method]
        headers = {**KEY, **options.pop("headers", {})}
        url = f"{self._gateway.url}{path.format(**names)}{query}"
        answer = requests.request(method, url, headers=headers, timeout=60, **options)
        assert answer.status_code == expect, (method, path, answer.text[:500])
        case = operation.Case(path_parameters=names)
        case.validate_response(answer, checks=CHECKS)
        self.seen.add((method, path, expect))
        is_json = answer.headers.get("Content-Type", "").startswith("application/json")
        return answer.json() if is_json else answer.content


def test_a_whole_life_is_answered_as_described(locked: Gateway, fake_worker: FakeWorker) -> None:
    walk = Walk(locked)
    jobs_of_a_life(walk, fake_worker)
    batches_of_a_life(walk, fake_worker)
    house_of_a_life(walk)
    asked = {(method, path) for method, path, _ in walk.seen}
    described = {(each.method.upper(), each.path) for each in OPERATIONS}
    assert {path for _, path in described - asked if path.startswith("/v1/batches")} == set()


def jobs_of_a_life(walk: Walk, worker: FakeWorker) -> None:
    image = {"image": ("a.png", photo_png())}
    form = {"model": "moves", "prompt": "zoom", "outputs": "gif", "metadata[a]": "1"}
    job = walk.ask("POST", "/v1/jobs", expect=202, files=image, data=form)
    names = {"job_id": job["id"]}
    walk.ask("GET", "/v1/jobs/{job_id}", names=names)
    walk.ask("GET", "/v1/jobs/{job_id}/content", expect=409, names=names)
    worker.beat(running := worker.claim(), 3)
    walk.ask("GET", "/v1/jobs/{job_id}", names=names)
    worker.complete(running)
    shown = walk.ask("GET", "/v1/jobs/{job_id}", names=names)
    assert shown["status"] == "succeeded"
    walk.ask("GET", "/v1/jobs/{job_id}/content", names=names)
    bytes_1 = {"Range": "bytes=0-1"}
    walk.ask("GET", "/v1/jobs/{job_id}/content", expect=206, names=names, headers=bytes_1)
    behind = {"Range": "bytes=999-"}
    walk.ask("GET", "/v1/jobs/{job_id}/content", expect=416, names=names, headers=behind)
    walk.ask("POST", "/v1/jobs/{job_id}/cancel", expect=409, names=names)
    walk.ask("GET", "/v1/jobs", query="?metadata[a]=1&status=succeeded")
    walk.ask("DELETE", "/v1/jobs/{job_id}", expect=204, names=names)
    walk.ask("GET", "/v1/jobs/{job_id}", expect=404, names=names)
    walk.ask("POST", "/v1/jobs", expect=422, json={"image": data_uri(b"x"), "promt": "x"})
    walk.ask("POST", "/v1/jobs", expect=415, data=b"x", headers={"Content-Type": "text/plain"})
    walk.ask("POST", "/generate", expect=504, files=image, data={"prompt": "zoom"})


def batches_of_a_life(walk: Walk, worker: FakeWorker) -> None:
    items = [{"image": {"data": data_uri(photo_png())}}] * 2
    body = {"model": "moves", "items": items, "metadata": {"a": "1"}}
    batch = walk.ask("POST", "/v1/batches", expect=202, json=body)
    names = {"batch_id": batch["id"]}
    walk.ask("GET", "/v1/batches")
    walk.ask("GET", "/v1/jobs", query=f"?batch_id={batch['id']}")
    walk.ask("GET", "/v1/batches/{batch_id}/content", expect=409, names=names)
    worker.complete(worker.claim())
    walk.ask("POST", "/v1/batches/{batch_id}/cancel", names=names)
    walk.ask("GET", "/v1/batches/{batch_id}", names=names)
    walk.ask("GET", "/v1/batches/{batch_id}/content", names=names)
    nobody = {"batch_id": f"batch_{'0' * 32}"}
    walk.ask("GET", "/v1/batches/{batch_id}", expect=404, names=nobody)
    walk.ask("POST", "/v1/batches", expect=422, json={"items": []})


def house_of_a_life(walk: Walk) -> None:
    walk.ask("GET", "/v1/usage")
    for path in ("/v1/models", "/v1/queue", "/readyz", "/livez", "/v1/webhook_event_types"):
        walk.ask("GET", path)
    walk.ask("GET", "/v1/models/{model}", names={"model": "moves"})
    for path in ("workers", "failures", "storage", "pauses"):
        walk.ask("GET", f"/v1/admin/{path}")
    walk.ask("POST", "/v1/admin/pause", json={"model": "moves"})
    walk.ask("POST", "/v1/admin/resume", json={"model": "moves"})
    key = walk.ask("POST", "/v1/keys", expect=201, json={"name": "walker", "models": ["moves"]})
    names = {"key_id": key["id"]}
    walk.ask("GET", "/v1/keys")
    walk.ask("PATCH", "/v1/keys/{key_id}", names=names, json={"daily_seconds": 5})
    walk.ask("POST", "/v1/keys/{key_id}/rotate", names=names)
    walk.ask("DELETE", "/v1/keys/{key_id}", names=names)
    walk.ask("PATCH", "/v1/keys/{key_id}", expect=409, names=names, json={})


def test_every_code_of_an_error_is_listed() -> None:
    listed = SCHEMA.raw_schema["components"]["schemas"]["Problem"]["properties"]["code"][
        "examples"
    ]
    for code in ("quota_exceeded", "model_not_allowed", "batch_not_ready", "job_terminal"):
        assert code in listed


def test_the_examples_of_the_description_are_taken(locked: Gateway) -> None:
    """Each example body of a create is sent unchanged, except for its image."""
    sent = 0
    for path, item in SCHEMA.raw_schema["paths"].items():
        content = item.get("post", {}).get("requestBody", {}).get("content", {})
        examples = content.get("application/json", {}).get("examples", {})
        if "{" in path:
            continue  # The example is of a thing that does not exist.
        for name, example in examples.items():
            body = json.dumps(example["value"]).replace(IMAGE, data_uri(photo_png()))
            headers = {**KEY, "Content-Type": "application/json"}
            answer = requests.post(f"{locked.url}{path}", data=body, headers=headers, timeout=60)
            if '"url"' in body:
                assert answer.json().get("code") not in ("invalid_request", "unknown_parameter")
            else:
                assert answer.status_code in (200, 201, 202), (path, name, answer.text)
            sent += 1
    assert sent >= 4
