"""The pages of the gateway in a real Chromium, under the policies that the gateway sends."""

from pathlib import Path

import pytest
from playwright.sync_api import Browser

from api.middleware.security_headers import NOTHING
from tests.support.browser import visit
from tests.support.clips import moving_clip, photo, write_clip
from tests.support.gateway import FakeWorker, Gateway
from tests.support.processes import until

pytestmark = [pytest.mark.long, pytest.mark.timeout(300)]

POLICY = "Content Security Policy"
VIDEO = "document.querySelector('video')"
IMAGE = "document.querySelector('img')"


def test_the_docs_work_and_break_no_policy(gateway: Gateway, browser: Browser) -> None:
    with visit(browser) as guest:
        page, complaints = guest.page, guest.complaints
        page.goto(f"{gateway.url}/docs")
        page.locator(".opblock").first.wait_for()
        for name in ("jobs-create_job_v1_jobs_post", "health-livez_livez_get"):
            page.locator(f"#operations-{name} .opblock-summary-control").click()
            page.locator(f"#operations-{name} .opblock-body").wait_for()
        alive = page.locator("#operations-health-livez_livez_get")
        alive.locator(".try-out__btn").click()
        alive.locator(".execute").click()
        alive.locator(".live-responses-table .response-col_status").first.wait_for()
        answer = alive.locator(".live-responses-table")
        until(lambda: '"status": "alive"' in answer.inner_text(), "the answer shows")
        assert complaints == []


@pytest.mark.extended
def test_a_photo_chosen_on_the_docs_page_becomes_a_job(
    gateway: Gateway, browser: Browser, tmp_path: Path
) -> None:
    photo().save(tmp_path / "photo.jpg")
    with visit(browser) as guest:
        page, complaints = guest.page, guest.complaints
        page.goto(f"{gateway.url}/docs")
        create = page.locator("#operations-jobs-create_job_v1_jobs_post")
        create.locator(".opblock-summary-control").click()
        create.locator(".try-out__btn").click()
        create.locator("input[type=file]").first.set_input_files(tmp_path / "photo.jpg")
        create.locator(".execute").click()
        answer = create.locator(".live-responses-table")
        answer.locator(".response-col_status").first.wait_for()
        until(lambda: '"status": "queued"' in answer.inner_text(), "the answer shows")
        assert complaints == []


def test_the_policy_of_the_docs_is_in_force(gateway: Gateway, browser: Browser) -> None:
    with visit(browser) as guest:
        page, complaints = guest.page, guest.complaints
        # The policy comes with the page itself; the rest of the page takes seconds to draw.
        page.route("**/docs/ui/**", lambda asked: asked.abort())
        page.goto(f"{gateway.url}/docs")
        went = page.evaluate("fetch('http://localhost:9/').then(() => 1, () => 0)")
        inline = page.evaluate(
            "(() => { const s = document.createElement('script'); s.textContent = 'window.x = 1';"
            " document.body.append(s); return window.x || 0; })()"
        )
        assert (went, inline) == (0, 0)
        # Console lines arrive apart from a script's result, and only while a script runs.
        until(
            lambda: page.evaluate("1") and sum(POLICY in said for said in complaints) >= 2,
            "both are complained of",
        )


def test_a_clip_and_its_image_open_in_a_tab(
    gateway: Gateway, fake_worker: FakeWorker, browser: Browser, tmp_path: Path
) -> None:
    job = gateway.created()
    clip = write_clip(tmp_path / "clip.mp4", moving_clip())
    fake_worker.complete(fake_worker.claim(), clip.read_bytes())
    with visit(browser) as guest:
        page, complaints = guest.page, guest.complaints
        answer = page.goto(f"{gateway.url}/v1/jobs/{job['id']}/content")
        assert answer is not None
        assert answer.headers["content-security-policy"].startswith(NOTHING)
        until(lambda: page.evaluate(f"{VIDEO}?.videoWidth") == 128, "the clip shows")
        page.goto(f"{gateway.url}/v1/jobs/{job['id']}/content?variant=input")
        until(lambda: page.evaluate(f"{IMAGE}?.naturalWidth") == 96, "the image shows")
        assert not [said for said in complaints if "Policy" in said]
