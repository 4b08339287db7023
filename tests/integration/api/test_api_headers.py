"""The headers that protect answers in a browser, and the origins that may read answers."""

from collections.abc import Iterator

import pytest
import requests

from shared.errors import OutOfMemory
from tests.support.gateway import FakeWorker, Gateway, photo_png, running_gateway
from tests.support.stack import Stack

USUAL = {
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
STUDIO = "https://studio.example.org"
ELSEWHERE = "https://elsewhere.example"


def is_guarded(answer: requests.Response) -> bool:
    policy = answer.headers["Content-Security-Policy"]
    return (
        all(answer.headers[name] == value for name, value in USUAL.items())
        and policy.startswith("default-src 'none'")
        and "frame-ancestors 'none'" in policy
        and "unsafe-eval" not in policy
    )


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/livez", 200),
        ("GET", "/readyz", 200),
        ("GET", "/metrics", 200),
        ("GET", "/openapi.json", 200),
        ("GET", "/", 200),
        ("GET", "/admin", 200),
        ("GET", "/web/main.js", 200),
        ("GET", "/web/nothing.js", 404),
        ("GET", "/docs", 200),
        ("GET", "/docs/start.js", 200),
        ("GET", "/docs/ui/swagger-ui.css", 200),
        ("GET", "/docs/ui/nothing.css", 404),
        ("GET", "/nowhere", 404),
        ("PUT", "/v1/jobs", 405),
        ("GET", "/v1/jobs", 200),
        ("GET", "/v1/jobs?limit=x", 422),
        ("POST", "/v1/jobs", 415),
        ("GET", "/v1/jobs/job_x", 404),
        ("OPTIONS", "/v1/jobs", 405),
    ],
)
def test_every_answer_is_guarded(gateway: Gateway, method: str, path: str, status: int) -> None:
    answer = gateway.http.request(
        method, f"{gateway.url}{path}", timeout=60, allow_redirects=False
    )
    assert answer.status_code == status
    assert is_guarded(answer), answer.headers
    is_page = path in {"/", "/admin"} or path.startswith(("/docs", "/web"))
    kept = "no-cache" if is_page and status == 200 else "no-store"
    assert kept in answer.headers["Cache-Control"] or path.startswith("/v1/jobs")


def test_a_refusal_before_the_body_is_read_is_guarded_too(gateway: Gateway) -> None:
    answer = gateway.post("/v1/jobs", data=iter([bytes(2**20)] * 40))
    assert answer.status_code in {413, 415}
    assert is_guarded(answer)


def test_what_belongs_to_a_job_is_kept_by_no_shared_cache(
    gateway: Gateway, fake_worker: FakeWorker
) -> None:
    job = gateway.created()
    fake_worker.complete(fake_worker.claim())
    other = gateway.created()
    fake_worker.fail(fake_worker.claim(), OutOfMemory("no"))
    paths = [
        "/v1/jobs",
        f"/v1/jobs/{job['id']}",
        f"/v1/jobs/{job['id']}/content",
        f"/v1/jobs/{job['id']}/content?variant=input",
        f"/outputs/{job['id']}.mp4",
        f"/v1/jobs/{other['id']}/content",
    ]
    for path in paths:
        answer = gateway.get(path)
        assert is_guarded(answer)
        assert {"no-store", "private"} & set(answer.headers["Cache-Control"].split(", ")), path


def test_a_clip_keeps_its_validators_and_ranges(gateway: Gateway, fake_worker: FakeWorker) -> None:
    job = gateway.created()
    fake_worker.complete(fake_worker.claim())
    whole = gateway.get(f"/v1/jobs/{job['id']}/content")
    part = gateway.get(f"/v1/jobs/{job['id']}/content", headers={"Range": "bytes=0-1"})
    known = gateway.get(
        f"/v1/jobs/{job['id']}/content", headers={"If-None-Match": whole.headers["ETag"]}
    )
    assert [answer.status_code for answer in (whole, part, known)] == [200, 206, 304]
    for answer in (whole, part, known):
        assert answer.headers["Cache-Control"] == "private, no-cache"
        assert answer.headers["ETag"] == whole.headers["ETag"]
        assert is_guarded(answer)


@pytest.mark.parametrize("name", ['a"; filename="evil.exe', "a\\", "../../etc/passwd", "é\u202e"])
def test_the_name_of_an_upload_reaches_no_header(
    gateway: Gateway, fake_worker: FakeWorker, name: str
) -> None:
    answer = gateway.post("/v1/jobs", files={"image": (name, photo_png())})
    assert answer.status_code == 202, answer.text
    job = answer.json()
    fake_worker.complete(fake_worker.claim())
    for variant, suffix in (("video", ".mp4"), ("input", ".input.png")):
        content = gateway.get(f"/v1/jobs/{job['id']}/content?variant={variant}")
        expected = f'inline; filename="{job["id"]}{suffix}"'
        assert content.headers["Content-Disposition"] == expected


@pytest.fixture(scope="module")
def one_open(module_stack: Stack) -> Iterator[Gateway]:
    settings = module_stack.settings(cors_origins=f"{STUDIO}, http://localhost:3000")
    with running_gateway(settings) as gateway:
        yield gateway


@pytest.fixture
def opened(one_open: Gateway, fake_worker: FakeWorker) -> Gateway:
    """A gateway whose API pages of two other origins may call."""
    return one_open


def preflight(gateway: Gateway, origin: str) -> requests.Response:
    asked = {
        "Origin": origin,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization,idempotency-key,content-type",
    }
    return gateway.http.options(f"{gateway.url}/v1/jobs", headers=asked, timeout=60)


def allowed(answer: requests.Response) -> str | None:
    return answer.headers.get("Access-Control-Allow-Origin")


def test_no_page_of_another_origin_is_let_in_by_default(gateway: Gateway) -> None:
    for origin in (STUDIO, "null", gateway.url):
        assert preflight(gateway, origin).status_code != 200
        answer = gateway.get("/livez", headers={"Origin": origin})
        assert not [name for name in answer.headers if name.startswith("Access-Control")]


@pytest.mark.parametrize("origin", [STUDIO, "http://localhost:3000"])
def test_a_named_origin_may_ask_and_read(opened: Gateway, origin: str) -> None:
    asked = preflight(opened, origin)
    assert (asked.status_code, allowed(asked)) == (200, origin)
    assert is_guarded(asked)
    answer = opened.get("/livez", headers={"Origin": origin})
    assert (allowed(answer), answer.headers["Vary"]) == (origin, "Origin")
    assert "Access-Control-Allow-Credentials" not in answer.headers
    shown = answer.headers["Access-Control-Expose-Headers"]
    assert {"Location", "Retry-After", "X-Request-ID", "ETag"} <= set(shown.split(", "))


def test_a_named_origin_may_read_refusals_too(opened: Gateway) -> None:
    headers = {"Origin": STUDIO}
    for answer in (
        opened.get("/nowhere", headers=headers),
        opened.post("/v1/jobs", data=bytes(50 * 2**20), headers=headers),
    ):
        assert answer.status_code in {404, 413}
        assert allowed(answer) == STUDIO


@pytest.mark.parametrize(
    "origin",
    [ELSEWHERE, "null", "http://studio.example.org", f"{STUDIO}:8443", f"{STUDIO}.evil.example"],
)
def test_every_other_origin_stays_out(opened: Gateway, origin: str) -> None:
    asked = preflight(opened, origin)
    assert (asked.status_code, allowed(asked)) == (400, None)
    assert allowed(opened.get("/livez", headers={"Origin": origin})) is None


def test_all_origins_are_let_in_where_a_star_was_asked_for(
    module_stack: Stack, fake_worker: FakeWorker
) -> None:
    with running_gateway(module_stack.settings(cors_origins="*")) as gateway:
        answer = gateway.get("/livez", headers={"Origin": ELSEWHERE})
        assert allowed(answer) == "*"
        assert "Access-Control-Allow-Credentials" not in answer.headers
