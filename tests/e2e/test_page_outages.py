"""Faults between the page and the server cost the user nothing."""

import re
from pathlib import Path
from typing import Final

import pytest
from playwright.sync_api import Browser, Request, Response, expect

from tests.chaos.proxy import Proxy
from tests.support.browser import visit
from tests.support.clips import photo
from tests.support.gateway import FakeWorker, Gateway
from tests.support.page import choose_sample, enter, finish, plays, press_send, send
from tests.support.processes import until

pytestmark = [pytest.mark.long, pytest.mark.timeout(300)]

MANY: Final = 32
"""More jobs than the page reads of the history at once."""


def is_stream(asked: Request | Response) -> bool:
    return asked.url.endswith("/v1/events")


@pytest.mark.extended
def test_offline_and_back(
    studio: Gateway, fake_worker: FakeWorker, browser: Browser, clip: bytes
) -> None:
    with visit(browser, locale="en-GB") as guest:
        page = guest.page
        send(page, studio)
        # After a short scroll, the header once hid what was under it.
        page.set_viewport_size({"width": 1280, "height": 500})
        page.evaluate("scrollTo(0, 40)")
        page.context.set_offline(True)
        expect(page.locator(".banner")).to_contain_text("Your jobs continue")
        below = "document.querySelector('.top').getBoundingClientRect().bottom"
        assert page.evaluate(
            f"document.querySelector('.banner').getBoundingClientRect().top >= {below}"
        )
        finish(fake_worker, clip)
        page.context.set_offline(False)
        plays(page)
        expect(page.locator(".banner")).to_have_count(0)


@pytest.mark.parametrize(
    ("photos", "route"),
    [(1, "/v1/jobs"), pytest.param(3, "/v1/batches", marks=pytest.mark.extended)],
)
def test_what_is_sent_again_after_no_answer_is_made_once(
    studio: Gateway,
    browser: Browser,
    tmp_path: Path,
    photos: int,
    route: str,
) -> None:
    files = [tmp_path / f"{number}.png" for number in range(photos)]
    for number, file in enumerate(files):
        photo().resize((96 + 2 * number, 72)).save(file)

    def made() -> int:
        return len(studio.get("/v1/jobs").json()["data"])

    with Proxy(studio.port) as proxy, visit(browser, locale="en-GB") as guest:
        page = guest.page
        page.goto(f"http://127.0.0.1:{proxy.port}/")
        page.locator("input[data-for=photos]").set_input_files(files)
        # The server gets a request that ends with this, but the page gets no answer; Chromium
        # tries twice.
        proxy.cut_after(b'"gif"]', times=9)
        page.locator(".big").click()
        expect(page.locator(".send .error")).to_contain_text("cannot be reached")
        until(lambda: made() == photos, "the server has taken it")
        proxy.heal()
        page.locator(".big").click()
        page.locator(".is-rendering").wait_for()
        expect(page.locator(".queue li")).to_have_count(photos)
        assert made() == photos
        page.locator(".big").click()  # The first has arrived, so this is a new job.
        expect(page.locator(".queue li")).to_have_count(2 * photos)
        # The page shows it before it is made; the next test must not find it.
        until(lambda: made() == 2 * photos, "the new job is made")
        sent = [each for each in guest.requests if each.url.endswith(route)]
        keys = [each.headers["idempotency-key"] for each in sent if each.method == "POST"]
        assert keys[0] == keys[1] != keys[2]


# In each run the next test cuts a stream, and tests/chaos/test_listener.py counts the ends.
@pytest.mark.extended
def test_no_end_is_lost_that_came_while_nobody_heard(studio: Gateway, browser: Browser) -> None:
    ids = [studio.created()["id"] for _ in range(MANY)]
    with visit(browser, locale="en-GB") as guest:
        page = guest.page
        enter(page, studio)
        expect(page.locator(".queue li")).to_have_count(MANY)
        page.context.set_offline(True)
        expect(page.locator(".banner")).to_be_visible()
        for job_id in ids:
            studio.post(f"/v1/jobs/{job_id}/cancel")
        # These newer jobs fill what the page reads of the history at once, so the ends of the
        # first jobs are not in that part.
        for _ in range(MANY):
            studio.post(f"/v1/jobs/{studio.created()['id']}/cancel")
        page.context.set_offline(False)
        expect(page.locator(".queue")).to_have_count(0)


def test_a_stream_that_is_cut_is_taken_up_again_and_loses_no_end(
    studio: Gateway, fake_worker: FakeWorker, browser: Browser, clip: bytes
) -> None:
    with Proxy(studio.port) as proxy, visit(browser, locale="en-GB") as guest:
        page = guest.page
        with page.expect_response(is_stream):  # It must hear before its requests get no answer.
            page.goto(f"http://127.0.0.1:{proxy.port}/")
        choose_sample(page)
        press_send(page)
        # From here on, the page gets no answer to requests about jobs: its news comes by the
        # stream.
        page.route(re.compile(r"/v1/jobs(\?.*|/job_\w+)$"), lambda _: None)
        job = fake_worker.claim("camera")
        fake_worker.beat(job, 4)
        expect(page.locator(".progress-line")).to_contain_text("step 4 of 10")
        # This is like a gateway's death: every connection is cut, and new ones fail for a while.
        with page.expect_request(is_stream):  # The page tries it again.
            proxy.refuse()
        fake_worker.complete(job, clip)
        page.unroute_all(behavior="ignoreErrors")
        with page.expect_response(is_stream):
            proxy.heal()
        plays(page)
