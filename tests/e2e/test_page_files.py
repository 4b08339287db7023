"""The page's own files are small, and browsers ask for them again by their ETag."""

import pytest
from playwright.sync_api import Browser

from tests.support.browser import visit
from tests.support.gateway import Gateway
from tests.support.page import enter

pytestmark = [pytest.mark.long, pytest.mark.timeout(300)]

MOST_BYTES = 120_000
PARTS = ("main.js", "vendor/preact.mjs", "style.css", "later.css")


def test_a_cold_page_is_small(studio: Gateway, browser: Browser) -> None:
    with visit(browser, locale="en-GB") as guest:
        enter(guest.page, studio)
        guest.page.locator(".samples").wait_for()
        guest.page.wait_for_load_state("networkidle")
        answers = [request.response() for request in guest.requests]
        parts = [
            answer for answer in answers if answer and not answer.url.endswith((".jpg", ".svg"))
        ]
        ours = [each for each in parts if "/v1/" not in each.url and "openapi" not in each.url]
        assert len(ours) > 20
        assert sum(len(answer.body()) for answer in ours) <= MOST_BYTES


def test_the_page_is_asked_for_again_by_its_etag(studio: Gateway) -> None:
    for path in (
        "/",
        "/web/main.js",
        "/web/vendor/preact.mjs",
        "/web/style.css",
        "/web/later.css",
    ):
        first = studio.get(path)
        assert first.headers["Cache-Control"] == "no-cache"
        again = studio.get(path, headers={"If-None-Match": first.headers["ETag"]})
        assert (again.status_code, again.content) == (304, b""), path
    policy = studio.get("/").headers["Content-Security-Policy"]
    assert "unsafe" not in policy
    assert "http" not in policy
