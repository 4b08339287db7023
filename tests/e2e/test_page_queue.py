"""The queue on the page: it shows every pause, and its times are the server's."""

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect

from tests.support.browser import visit
from tests.support.gateway import ADMIN_KEY, FakeWorker, Gateway, running_gateway
from tests.support.page import choose_sample, finish, press_send, sign_in
from tests.support.stack import ROOT, Stack
from worker.engines.camera.engine import SPEC as CAMERA

pytestmark = [pytest.mark.long, pytest.mark.timeout(300)]

SAMPLE = (ROOT / "api" / "web" / "samples" / "coffee.jpg").read_bytes()
ENOUGH = 5
"""An estimate needs so many clips."""


@pytest.fixture
def house(module_stack: Stack, fake_worker: FakeWorker) -> Iterator[Gateway]:
    fake_worker.clear()
    fake_worker.offer(CAMERA)
    with running_gateway(module_stack.settings(admin_key=ADMIN_KEY)) as house:
        yield house


@pytest.mark.extended
def test_a_pause_is_shown_and_taken_back_by_the_page(
    browser: Browser, house: Gateway, fake_worker: FakeWorker
) -> None:
    with visit(browser, locale="en-GB") as guest:
        page = guest.page
        sign_in(page, house, ADMIN_KEY)
        choose_sample(page)
        press_send(page)
        page.get_by_role("link", name="Admin").click()
        page.get_by_role("button", name="Pause all").click()
        expect(page.locator(".admin")).to_contain_text("All models are paused since")
        page.get_by_role("link", name="Stillreel, home").click()
        expect(page.locator(".pill")).to_contain_text("Paused")
        expect(page.locator(".send")).to_contain_text("Jobs are kept")
        page.locator(".queue-job").click()
        expect(page.locator(".progress-line")).to_contain_text("Paused")
        assert fake_worker.jobs.claim(["camera"], worker="hand") is None
        page.get_by_role("link", name="Admin").click()
        page.get_by_role("button", name="Resume all").click()
        expect(page.locator(".admin")).to_contain_text("no job starts")
        page.get_by_role("link", name="Stillreel, home").click()
        assert fake_worker.claim("camera")


@pytest.mark.extended
def test_the_time_that_is_said_is_the_servers_and_none_is_said_too_early(
    browser: Browser, house: Gateway, fake_worker: FakeWorker, clip: bytes
) -> None:
    with visit(browser, locale="en-GB") as guest:
        page = guest.page
        sign_in(page, house, ADMIN_KEY)
        choose_sample(page)
        asked = re.compile(r"/estimate\?")
        note = page.locator(".send-note span")
        for _ in range(ENOUGH):
            expect(note).to_contain_text("768 × 512")
            assert "about" not in note.inner_text()
            house.created(resolution="512p", image=SAMPLE)
            finish(fake_worker, clip)
        fake_worker.offer(CAMERA)  # The worker must still be there on a slow machine.
        with page.expect_response(asked) as answer:
            page.locator("#field-num_frames").fill("15")
            page.locator("#field-num_frames").fill("16")
        told = answer.value.json()
        assert told["like_jobs"] == ENOUGH
        seconds = max(1, round(told["end_seconds"]))
        expect(note).to_contain_text(f"about {seconds} s")
