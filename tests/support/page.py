"""The page in tests: a gateway whose engine the test plays, and a visitor in Chromium."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page

from shared.tables.access import sessions
from tests.support.browser import Visit, visit
from tests.support.clips import moving_clip, write_clip
from tests.support.gateway import FakeWorker, Gateway
from tests.support.processes import until
from tests.support.stack import ROOT
from worker.engines.camera.engine import SPEC as CAMERA

AXE = (ROOT / "tests" / "vendor" / "axe" / "axe.min.js").read_text()
VIDEO = "document.querySelector('.frame video')"
PLAYING = f"{VIDEO} && !{VIDEO}.paused && {VIDEO}.currentTime > 0.05"
PHONE = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True}
WIDTH = "document.documentElement.scrollWidth"


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The result of the worker for any photo: one second, in motion."""
    return write_clip(tmp_path_factory.mktemp("clip") / "clip.mp4", moving_clip()).read_bytes()


@pytest.fixture
def studio(browser: Browser, gateway: Gateway, fake_worker: FakeWorker) -> Gateway:
    """A gateway whose only engine is `camera`, served by `hand`.

    The browser starts first, because on a busy machine its start takes longer than a worker counts
    as alive.
    """
    fake_worker.clear()
    fake_worker.offer(CAMERA)
    return gateway


@pytest.fixture
def guest(browser: Browser) -> Iterator[Visit]:
    """A visitor; any complaint of the page, or request to another origin, fails the test."""
    with visit(browser, locale="en-GB") as guest:
        yield guest
        assert guest.complaints == []
        assert len(guest.origins()) == 1


def enter(page: Page, studio: Gateway, path: str = "/") -> None:
    page.goto(f"{studio.url}{path}")
    page.locator(".make, .sign-in").first.wait_for()


def sign_in(page: Page, studio: Gateway, key: str) -> None:
    enter(page, studio)
    page.locator("#key").fill(key)
    page.keyboard.press("Enter")
    page.locator(".make").wait_for()


def choose_sample(page: Page) -> None:
    page.locator(".sample").first.click()
    page.locator(".is-ready").wait_for()


def press_send(page: Page) -> None:
    page.locator(".big").click()
    page.locator(".is-rendering").wait_for()


def send(page: Page, studio: Gateway) -> None:
    """Send a sample photo."""
    enter(page, studio)
    choose_sample(page)
    press_send(page)


def finish(fake_worker: FakeWorker, clip: bytes) -> None:
    fake_worker.complete(fake_worker.claim("camera"), clip)


def plays(page: Page) -> None:
    until(lambda: page.evaluate(PLAYING), "the clip plays")


def end_sessions(house: Gateway, fake_worker: FakeWorker, *cookies: str) -> None:
    """End every session, as when a key is revoked."""
    with fake_worker.db.begin() as connection:
        connection.execute(sessions.delete())
    for cookie in cookies:
        house.ports.session_cache.forget(cookie)


def violations(page: Page) -> list[str]:
    """Return axe's findings; its script is passed in, because the page's policy loads none."""
    page.evaluate(AXE)
    # A transition in progress has colours that nobody chose.
    page.wait_for_function("document.getAnimations().every(a => a.playState !== 'pending')")
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")["violations"]
    return [f"{each['id']}: {node['html']}" for each in found for node in each["nodes"]]
