"""An image may be given by URL. It is fetched while the job is made, or an error says why not."""

import socket
import threading
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
import requests

from local.servers.services import INNER
from shared.jobs.job import parse_id
from shared.jobs.storage_keys import input_key
from shared.outbound.pinned_connection import MAX_LOOKUPS
from tests.support import receiver as twin
from tests.support.gateway import FakeWorker, Gateway, beside, photo_png, running_gateway
from tests.support.hostile import Resolver
from tests.support.processes import until
from tests.support.receiver import Behaviour, Receiver
from tests.support.stack import Stack

MAX_BYTES = 64 * 1024
FETCHES = 6
"""The number of images that one gateway fetches at once for one owner."""

WEBHOOK = "https://203.0.114.7/hook"  # A public address; nothing is ever sent there.


@pytest.fixture(scope="module")
def one_fetching(module_stack: Stack) -> Iterator[Gateway]:
    settings = module_stack.settings(outbound_allow="127.0.0.1/32", max_upload_bytes=MAX_BYTES)
    with running_gateway(settings) as gateway:
        yield gateway


@pytest.fixture
def fetching(one_fetching: Gateway, fake_worker: FakeWorker) -> Gateway:
    """A gateway that may fetch from 127.0.0.1, up to 64 KiB."""
    return one_fetching


@pytest.fixture
def site() -> Iterator[Receiver]:
    """A web server with one photo."""
    with Receiver() as site:
        site.script("/cat.png", twin.status(200, photo_png(), Content_Type="image/png"))
        yield site


@pytest.fixture
def resolver(monkeypatch: pytest.MonkeyPatch) -> Resolver:
    """Names are resolved here, because the machine's name server may be far away or missing."""
    stub = Resolver()
    monkeypatch.setattr(socket, "getaddrinfo", stub)
    return stub


def asked(gateway: Gateway, url: object, headers: Any = None, **fields: Any) -> requests.Response:
    return gateway.post("/v1/jobs", json={"image": {"url": url}, **fields}, headers=headers)


def test_an_image_behind_a_url_makes_the_same_job_as_a_file(
    fetching: Gateway, fake_worker: FakeWorker, site: Receiver
) -> None:
    by_file = fetching.created(seed="5")
    by_json = asked(fetching, site.url("/cat.png"), seed=5)
    by_form = fetching.post("/v1/jobs", data={"image[url]": site.url("/cat.png"), "seed": "5"})

    for made in (by_json, by_form):
        assert made.status_code == 202, made.text
        assert made.json()["input"] == by_file["input"]
        assert fake_worker.storage.get(input_key(parse_id(made.json()["id"])))
    assert [request.path for request in site.requests] == ["/cat.png"] * 2


def test_a_redirect_to_the_image_is_followed(fetching: Gateway, site: Receiver) -> None:
    site.script("/share", twin.redirect("/cat.png"))

    assert asked(fetching, site.url("/share")).status_code == 202


REFUSED = [
    ("http://10.1.2.3/cat.png", 422, "outbound_refused", "10.1.2.3 is not at a public address"),
    ("http://127.0.0.2/cat.png", 422, "outbound_refused", "not at a public address"),
    ("http://169.254.169.254/latest", 422, "outbound_refused", "not at a public address"),
    ("ftp://203.0.114.7/cat.png", 422, "invalid_url", "begins with https:// or http://"),
    ("javascript:alert(1)", 422, "invalid_url", "begins with https:// or http://"),
    ("https://me:word@203.0.114.7/", 422, "invalid_url", "no user name or password"),
    ("cat.png", 422, "invalid_url", "begins with https:// or http://"),
    ("http://127.0.0.1:22/", 422, "invalid_url", "port 22 is not allowed"),
    ("http://no-such-name.invalid/", 422, "outbound_failed", "does not resolve"),
    ("", 422, "invalid_request", "takes a URL of at most 8000 characters"),
    ("https://example.org/" + "a" * 8000, 422, "invalid_request", "at most 8000 characters"),
    (7, 422, "invalid_request", "takes a URL of at most 8000 characters"),
]


@pytest.mark.parametrize(("url", "status", "code", "words"), REFUSED, ids=lambda v: str(v)[:30])
def test_a_url_that_may_not_be_fetched_is_named(
    fetching: Gateway,
    fake_worker: FakeWorker,
    resolver: Resolver,
    url: object,
    status: int,
    code: str,
    words: str,
) -> None:
    refused = asked(fetching, url)

    assert (refused.status_code, refused.json()["code"]) == (status, code)
    assert refused.json()["param"] == "image.url"
    assert words in refused.json()["detail"]
    assert fetching.get("/v1/jobs").json()["data"] == []
    assert fake_worker.storage.delete_prefix("inputs/") == 0


ANSWERS = [
    (twin.status(404, b"the secret page"), 422, "unusable_answer", "answered 404"),
    (twin.gzip_bomb(), 422, "unusable_answer", "Content-Encoding"),
    (twin.redirect("http://127.0.0.2/"), 422, "outbound_refused", "not at a public address"),
    (twin.redirect("/"), 422, "too_many_redirects", "more than 4 redirects"),
    (twin.cut_body(), 422, "outbound_failed", "ended its answer in the middle"),
    (twin.garbage(), 422, "outbound_failed", "did not answer in HTTP"),
    (twin.endless_body(), 413, "image_too_large", f"more than {MAX_BYTES} bytes"),
]


@pytest.mark.parametrize(("behaviour", "status", "code", "words"), ANSWERS)
def test_an_answer_that_brings_no_image_is_told_without_its_words(
    fetching: Gateway, site: Receiver, behaviour: Behaviour, status: int, code: str, words: str
) -> None:
    site.script("/", behaviour)

    refused = asked(fetching, site.url())

    assert (refused.status_code, refused.json()["code"]) == (status, code)
    assert refused.json()["param"] == "image.url"
    assert words in refused.json()["detail"]
    assert "secret page" not in refused.text


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"<html>the secret page</html>", 415, "unsupported_image"),
        (b"", 422, "invalid_image"),
        (photo_png()[:2000], 422, "truncated_image"),
    ],
)
def test_what_is_fetched_is_believed_no_more_than_an_upload(
    fetching: Gateway, site: Receiver, body: bytes, status: int, code: str
) -> None:
    site.script("/cat.png", twin.status(200, body, Content_Type="image/png"))

    refused = asked(fetching, site.url("/cat.png"))

    assert (refused.status_code, refused.json()["code"]) == (status, code)
    assert "secret page" not in refused.text


def test_servers_that_never_answer_hold_no_other_request(fetching: Gateway) -> None:
    with Receiver() as slow:
        slow.script("/", twin.hang())
        waiting = [beside(lambda: asked(fetching, slow.url())) for _ in range(20)]
        slow.wait_for(FETCHES)

        # More requests wait than are fetched at once, and all other requests are still answered.
        assert fetching.create().status_code == 202
        assert fetching.create(**{"webhook[url]": WEBHOOK}).status_code == 202
        assert slow.peak["/"] == FETCHES
    for each in waiting:
        answer = each.result(60)
        known = [(422, "outbound_failed"), (503, "busy")]
        assert (answer.status_code, answer.json()["code"]) in known


def test_a_fetched_image_takes_room_as_an_upload_does(fetching: Gateway, site: Receiver) -> None:
    room = fetching.ports.pools.body_memory.turns
    free = room.free
    with fetching.holding(room, free - 1000, owners=4):
        waiting = beside(lambda: asked(fetching, site.url("/cat.png")))
        # There is memory for the request, but not for the photo behind its URL.
        until(lambda: room._line and room.free < 1000, "it is in line")
    assert waiting.result(60).status_code == 202
    until(lambda: room.free == free, "all of the room is given back")


def test_a_key_that_made_a_job_is_answered_without_a_look(
    fetching: Gateway, site: Receiver
) -> None:
    key = {"Idempotency-Key": "fetched"}
    first = asked(fetching, site.url("/cat.png"), key)
    site.script("/cat.png", twin.status(404))

    again = asked(fetching, site.url("/cat.png"), key)
    other = asked(fetching, site.url("/cat.png?other"), key)

    assert again.json()["id"] == first.json()["id"]
    assert again.headers["Idempotency-Replayed"] == "true"
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_conflict")
    assert len(site.requests) == 1


def test_an_image_is_sent_in_one_way(fetching: Gateway, site: Receiver) -> None:
    files = {"image": ("a.png", photo_png())}

    both = fetching.post("/v1/jobs", data={"image[url]": site.url("/cat.png")}, files=files)
    empty = fetching.post("/v1/jobs", data={"image[url]": ""}, files=files)

    assert (both.status_code, both.json()["param"]) == (422, "image")
    assert "sent twice" in both.json()["detail"]
    assert empty.status_code == 202  # Browsers send every input of a form.
    assert site.requests == []


def test_generate_takes_the_image_itself_only(fetching: Gateway, site: Receiver) -> None:
    refused = fetching.post("/generate", data={"image[url]": site.url("/cat.png")})

    assert (refused.status_code, refused.json()["param"]) == (422, "image.url")
    assert "POST /v1/jobs" in refused.json()["detail"]
    assert site.requests == []


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://10.1.2.3/hook", "10.1.2.3 is not at a public address"),
        ("http://0x7f.2/hook", "not at a public address"),
        ("http://[::1]/hook", "not at a public address"),
        ("https://me:word@203.0.114.7/", "no user name or password"),
        ("https://203.0.114.7:25/", "port 25 is not allowed"),
        ("https://no-such-name.invalid/hook", "does not resolve"),
    ],
)
def test_a_jobs_own_webhook_is_judged_before_its_image_is_fetched(
    fetching: Gateway, site: Receiver, resolver: Resolver, url: str, words: str
) -> None:
    refused = asked(fetching, site.url("/cat.png"), webhook={"url": url})

    assert (refused.status_code, refused.json()["code"]) == (422, "outbound_refused")
    assert refused.json()["param"] == "webhook.url"
    assert words in refused.json()["detail"]
    assert site.requests == []
    assert fetching.get("/v1/jobs").json()["data"] == []


def test_a_webhook_that_can_be_reached_is_accepted(fetching: Gateway) -> None:
    assert fetching.create(**{"webhook[url]": WEBHOOK}).status_code == 202


def test_our_own_services_are_no_place_for_images_or_webhooks(
    fetching: Gateway, module_stack: Stack
) -> None:
    settings = module_stack.settings()
    assert settings.inner_ports >= {module_stack.servers.state.ports[name] for name in INNER}
    for port in settings.own_ports | settings.inner_ports:
        url = f"http://127.0.0.1:{port}/"
        for refused in (asked(fetching, url), fetching.create(**{"webhook[url]": url})):
            assert refused.status_code == 422
            assert f"port {port} is closed" in refused.json()["detail"]


@pytest.mark.extended
def test_a_name_server_that_hangs_makes_us_busy_and_no_url_wrong(
    fetching: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    released, system = threading.Event(), socket.getaddrinfo
    asked_for: list[str] = []

    def hanging(host: str, *args: Any, **options: Any) -> Any:
        if host.endswith(".slow.example"):
            asked_for.append(host)
            released.wait(60)
            raise socket.gaierror(socket.EAI_AGAIN, "later")
        return system(host, *args, **options)

    monkeypatch.setattr(socket, "getaddrinfo", hanging)
    check = fetching.ports.webhook_url_checker.check
    for number in range(MAX_LOOKUPS):
        beside(partial(check, f"https://{number}.slow.example/"))
    until(lambda: len(asked_for) == MAX_LOOKUPS, "every lookup waits")

    answer = fetching.create(**{"webhook[url]": "https://one-more.slow.example/"})

    released.set()
    assert (answer.status_code, answer.json()["code"]) == (503, "busy")
    assert "Retry-After" in answer.headers
