"""The page of a whole service: the camera engine, a gateway that dies, a long history."""

from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from playwright.sync_api import Browser, expect
from sqlalchemy import text

from tests.e2e.test_service import Service, running
from tests.support.browser import visit
from tests.support.clips import moving_clip, write_clip
from tests.support.gateway import FakeWorker, Gateway
from tests.support.page import PLAYING
from tests.support.processes import until
from worker.engines.camera.engine import SPEC as CAMERA

pytestmark = pytest.mark.timeout(400)

_COPY = text(
    "INSERT INTO jobs SELECT (jsonb_populate_record(j, jsonb_build_object('id', uuidv7()))).*"
    " FROM jobs j, generate_series(1, :count)"
)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with running(tmp_path_factory.mktemp("service"), engines="camera") as service:
        yield service


def kill_gateway(service: Service) -> None:
    """Kill the gateway as a machine short of memory would; the launcher starts another one."""
    for child in psutil.Process(service.launcher.pid).children(recursive=True):
        if child.cmdline()[1:] == ["-m", "api"]:
            child.kill()
            return
    raise AssertionError("no gateway runs")


@pytest.mark.extended
def test_a_sample_becomes_a_playing_clip_of_the_camera_engine(
    service: Service, browser: Browser
) -> None:
    with visit(browser, locale="en-GB") as guest:
        page = guest.page
        page.goto(service.url)
        page.locator(".sample").first.click()
        page.locator(".big").click()
        until(lambda: page.evaluate(PLAYING), "the clip plays")
        expect(page.locator(".facts")).to_contain_text("Push in")
        with page.expect_download() as download:
            page.locator(".actions a", has_text="GIF").click()
        assert Path(download.value.path()).read_bytes()[:4] == b"GIF8"
        page.get_by_role("button", name="Vary × 4").click()
        compare = page.get_by_role("button", name="Compare 4")
        compare.wait_for(timeout=120_000)
        compare.click()
        videos = "[...document.querySelectorAll('.compare video')].map(v => v.currentTime)"
        until(
            lambda: (
                len(times := page.evaluate(videos)) == 4
                and min(times) > 0.1
                and max(times) - min(times) < 0.1
            ),
            "the four play in step",
        )
        assert guest.complaints == []
        assert len(guest.origins()) == 1


@pytest.mark.extended
def test_a_gateway_that_dies_and_comes_back_costs_the_page_nothing(
    service: Service, browser: Browser
) -> None:
    with visit(browser, locale="en-GB") as guest:
        page = guest.page
        page.goto(service.url)
        page.locator(".sample").last.click()
        page.locator(".big").click()
        page.locator(".is-rendering, .is-done").first.wait_for()
        kill_gateway(service)
        expect(page.locator(".banner")).to_be_visible()
        until(lambda: page.evaluate(PLAYING), "the clip plays")
        expect(page.locator(".banner")).to_have_count(0)


@pytest.mark.extended
@pytest.mark.parametrize("clips", [120, 500])
def test_five_hundred_clips_come_as_one_scrolls(
    gateway: Gateway, fake_worker: FakeWorker, browser: Browser, tmp_path: Path, clips: int
) -> None:
    fake_worker.offer(CAMERA)
    gateway.created(model="camera", prompt="The one of many.", outputs="poster")
    fake_worker.complete(
        fake_worker.claim("camera"), write_clip(tmp_path / "clip.mp4", moving_clip()).read_bytes()
    )
    with fake_worker.db.begin() as connection:
        connection.execute(_COPY, {"count": clips - 1})
    with visit(browser, locale="en-GB") as guest:
        page = guest.page
        page.goto(gateway.url)
        page.locator(".clip").first.wait_for()

        def has_all() -> bool:
            page.evaluate("scrollTo(0, document.body.scrollHeight)")
            page.wait_for_timeout(300)  # People scroll so: the page draws clips in between.
            return page.locator(".clip").count() == clips

        until(has_all, "all are there")
        # A click works at once, also with all clips on the page.
        page.locator(".clip-open").last.click()
        expect(page.locator(".facts .said")).to_contain_text("The one of many.")
