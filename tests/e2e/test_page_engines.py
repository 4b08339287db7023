"""The models on the page, from small checkpoints: their clips are noise, but all else is real."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.e2e.test_service import Service, running
from tests.support.browser import visit
from tests.support.checkpoints import small_i2vgen_xl
from tests.support.page import PLAYING
from tests.support.processes import until
from tests.support.small_diffusers import small_ltx
from worker.engines.animatediff.tiny import tiny_animatediff
from worker.engines.svd.tiny import tiny_svd
from worker.engines.wan.tiny import tiny_wan

pytestmark = [pytest.mark.extended, pytest.mark.long, pytest.mark.timeout(1500)]

SECONDS = 400.0
"""The limit for one clip on a busy machine; on an idle machine a clip takes some seconds."""

SCREENSHOTS = "PAGE_SCREENSHOTS"
"""This variable names a folder for screenshots, for people who want to see the page."""

# Enough steps to see a render; each step of SVD takes seconds on a core.
SMALL: dict[str, dict[str, int]] = {
    "i2vgen-xl": {"num_frames": 8, "num_inference_steps": 120},
    "wan": {"num_frames": 9, "num_inference_steps": 40},
    "svd": {"num_frames": 8, "num_inference_steps": 4},
    "animatediff": {"num_frames": 8, "num_inference_steps": 5},
    "ltx": {"num_frames": 5, "num_inference_steps": 4},
}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    models = tmp_path_factory.mktemp("models")
    small_i2vgen_xl(models / "i2vgen-xl")
    tiny_wan(models / "wan")
    tiny_svd(models / "svd")
    tiny_animatediff(models / "animatediff")
    folder = small_ltx(tmp_path_factory.mktemp("ltx"))
    engines = ",".join(f"ltx=diffusers:{folder}" if name == "ltx" else name for name in SMALL)
    settings = {"engines": engines, "model_dir": models}
    with running(tmp_path_factory.mktemp("service"), **settings) as service:
        yield service


def choose(page: Page, engine: str, *, seed: int, **changed: int) -> None:
    """Fill in the page's form: the model, the smallest clip that it makes, and the seed."""
    page.locator("#model").select_option(engine)
    resolution = page.locator("input[name=resolution][value='256p']")
    page.locator(".segments label", has=resolution).click()
    if not page.locator("#seed").is_visible():
        page.locator(".further summary").click()
    for name, value in {**SMALL[engine], **changed}.items():
        put(page, f"#field-{name}", value)
    put(page, "#seed", seed)


def put(page: Page, field: str, value: int) -> None:
    tell = "(it, value) => { it.value = value; it.dispatchEvent(new Event('input')); }"
    page.locator(field).evaluate(tell, value)


def send(page: Page, service: Service) -> str:
    """Press Generate, and return the id of the new job."""
    before = newest(service)
    page.locator(".big").click()
    found = until(
        lambda: (job := newest(service)) != before and job, "the job is there", within=60
    )
    return str(found)


def newest(service: Service) -> str | None:
    jobs = service.http.get(f"{service.url}/v1/jobs?limit=1", timeout=60).json()["data"]
    return jobs[0]["id"] if jobs else None


def see_preview(page: Page) -> None:
    """Wait until a preview covers the photo, both in the large view and in the queue."""
    for where in (".frame.is-rendering > .sketch", ".mini > .sketch"):
        image = page.locator(where)
        expect(image).to_be_visible(timeout=SECONDS * 1000)
        image.evaluate("it => it.decode()")
    assert "preview" in str(page.locator(".mini > .sketch").get_attribute("src"))


def look(page: Page, name: str) -> None:
    if folder := os.environ.get(SCREENSHOTS):
        page.screenshot(path=Path(folder) / f"{name}.png")


@pytest.mark.parametrize("engine", SMALL)
def test_a_models_clip_is_seen_while_it_is_made_and_its_seed_makes_it_again(
    service: Service, browser: Browser, engine: str
) -> None:
    with visit(browser, locale="en-GB") as guest:
        page = guest.page
        page.goto(service.url)
        page.locator(".sample").first.click()
        choose(page, engine, seed=11)

        first = send(page, service)
        see_preview(page)
        look(page, f"{engine}-preview")
        until(lambda: page.evaluate(PLAYING), "the clip plays", within=SECONDS)
        look(page, f"{engine}-done")
        expect(page.locator(".sketch")).to_have_count(0)
        second = send(page, service)
        until(lambda: service.get(second)["finished_at"], "it is made again", within=SECONDS)

        clips = [clip(service, job) for job in (first, second)]
        assert clips[0] == clips[1]
        assert [service.get(job)["seed"] for job in (first, second)] == [11, 11]
        complaints = [said for said in guest.complaints if "409" not in said]
        assert complaints == []
        assert len(guest.origins()) == 1


@pytest.mark.parametrize("engine", SMALL)
def test_a_models_render_is_canceled_from_the_page(
    service: Service, browser: Browser, engine: str
) -> None:
    with visit(browser, locale="en-GB") as guest:
        page = guest.page
        page.goto(service.url)
        page.locator(".sample").first.click()
        choose(page, engine, seed=3, num_inference_steps=200)

        job = send(page, service)
        until(lambda: service.get(job)["stage"] == "denoising", "it renders", within=SECONDS)
        page.locator(".frame .progress").get_by_role("button", name="Cancel").click()

        expect(page.locator(".frame .failed")).to_contain_text("Canceled", timeout=60_000)
        assert service.get(job)["status"] == "canceled"
        assert service.get(job)["preview_url"] is None
        look(page, f"{engine}-canceled")


def clip(service: Service, job: str) -> Any:
    """Return the hash of a job's file; the file has its settings in it, but no time."""
    found = service.get(job)
    assert found["status"] == "succeeded", found["error"]
    return found["output"]["video"]["sha256"]
