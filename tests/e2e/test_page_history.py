"""The history: search, delete and undo; words that look like code stay words."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from playwright.sync_api import Browser, FilePayload, expect

from shared.errors import OutOfMemory
from tests.support.browser import Visit, visit
from tests.support.clips import photo
from tests.support.gateway import ADMIN_KEY, FakeWorker, Gateway, running_gateway
from tests.support.page import enter, finish, plays, send, sign_in
from tests.support.processes import until
from tests.support.stack import Stack
from worker.engines.camera.engine import SPEC as CAMERA

pytestmark = [pytest.mark.long, pytest.mark.timeout(300)]

HOSTILE = (
    "<img src=x onerror=window.pwned=1>",
    '"><script>window.pwned=1</script>',
    "javascript:window.pwned=1",
    "${window.pwned=1} {{constructor.constructor('window.pwned=1')()}}",
    "</textarea><svg onload=window.pwned=1>",
    "\u202egnp.exe \ufeff' onfocus=window.pwned=1 autofocus='",
    "<iframe srcdoc='<script>parent.pwned=1</script>'>",
    "<svg><animate onbegin=window.pwned=1 attributeName=x dur=1s>",
    "<style>@import 'http://127.0.0.1:9/x.css';</style><base href=http://127.0.0.1:9/>",
    "<a href='data:text/html,<script>opener.pwned=1</script>' autofocus>x</a>",
    "</script><script>window.pwned=1</script>",
    "&lt;img src=x onerror=window.pwned=1&gt; %3Cscript%3Ewindow.pwned=1%3C/script%3E",
    "[object Object] __proto__ constructor",
    "{jobs} {n} {time}",
)
"""Words that some pages run as code; the last two are code to templates."""


@pytest.mark.extended
def test_the_history_is_searched_and_gives_its_settings_back(
    studio: Gateway, fake_worker: FakeWorker, guest: Visit, clip: bytes
) -> None:
    page = guest.page
    studio.created(prompt="a red fox", seed="7", num_frames="24")
    finish(fake_worker, clip)
    studio.created(prompt="a blue whale")
    fake_worker.fail(fake_worker.claim("camera"), OutOfMemory("too large"))
    enter(page, studio)
    expect(page.locator(".clip")).to_have_count(2)
    page.get_by_role("combobox", name="Show").select_option("failed")
    expect(page.locator(".clip")).to_contain_text(["a blue whale"])
    page.get_by_role("combobox", name="Show").select_option("")
    with page.expect_request(lambda request: "q=FOX" in request.url):
        page.get_by_role("searchbox").fill("FOX")
    expect(page.locator(".clip")).to_have_count(1)
    expect(page.locator(".clip")).to_contain_text(["a red fox"])
    page.locator(".clip-open").click()
    page.get_by_role("button", name="Same settings").click()
    page.locator(".is-ready").wait_for()
    expect(page.locator("#prompt")).to_have_value("a red fox")
    expect(page.locator("#field-num_frames")).to_have_value("24")
    page.locator(".further summary").click()
    expect(page.locator("#seed")).to_have_value("7")


@pytest.mark.extended
def test_a_deleted_clip_comes_back_by_undo_and_goes_when_the_page_closes(
    studio: Gateway, fake_worker: FakeWorker, guest: Visit, clip: bytes
) -> None:
    page = guest.page
    send(page, studio)
    finish(fake_worker, clip)
    plays(page)
    page.locator(".clip").hover()
    page.locator(".clip-delete").click()
    expect(page.locator(".clip")).to_have_count(0)
    page.get_by_role("button", name="Undo").click()
    expect(page.locator(".clip")).to_have_count(1)
    page.locator(".clip").hover()
    page.locator(".clip-delete").click()
    assert len(studio.get("/v1/jobs").json()["data"]) == 1
    page.goto("about:blank")
    until(lambda: studio.get("/v1/jobs").json()["data"] == [], "it is deleted")


def test_words_that_are_code_stay_words(
    studio: Gateway, fake_worker: FakeWorker, guest: Visit, clip: bytes
) -> None:
    for words in HOSTILE:
        studio.created(prompt=words, **{"metadata[set]": words, "metadata[<b>]": words})
    page = guest.page
    enter(page, studio)
    expect(page.locator(".queue li")).to_have_count(len(HOSTILE))
    for _ in HOSTILE:
        finish(fake_worker, clip)
    expect(page.locator(".clip")).to_have_count(len(HOSTILE))
    page.locator(".clip-open").last.click()
    expect(page.locator(".facts .said")).to_contain_text(HOSTILE[0])
    page.get_by_role("button", name="As code").click()
    expect(page.locator("pre")).to_contain_text("onerror")
    assert page.evaluate("window.pwned") is None


@pytest.mark.extended
def test_the_code_that_is_shown_runs_as_it_stands(
    fake_worker: FakeWorker, module_stack: Stack, browser: Browser, clip: bytes, tmp_path: Path
) -> None:
    fake_worker.clear()
    fake_worker.offer(CAMERA)
    photo().resize((96, 72)).save(tmp_path / "photo.jpg")
    programs = {"curl": "bash", "Python": sys.executable, "JavaScript": shutil.which("node")}
    settings = module_stack.settings(admin_key=ADMIN_KEY)
    with running_gateway(settings) as house, visit(browser, locale="en-GB") as guest:
        house.created(prompt='It\'s `$HOME` and a "quote", @home')
        finish(fake_worker, clip)
        page = guest.page
        sign_in(page, house, ADMIN_KEY)
        page.locator(".clip-open").click()
        page.get_by_role("button", name="As code").click()
        for language, program in programs.items():
            if not program:
                continue  # Not every machine has node.
            page.locator("dialog").get_by_role("button", name=language, exact=True).click()
            (tmp_path / "clip.mjs").write_text(page.locator("pre").inner_text())
            ran = subprocess.Popen(
                [program, "clip.mjs"],
                cwd=tmp_path,
                env={**os.environ, "STILLREEL_KEY": ADMIN_KEY},
                text=True,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
            finish(fake_worker, clip)
            said, complaints = ran.communicate(timeout=60)
            assert ran.returncode == 0, complaints
            assert ("/content?variant=video" in said) is (language != "curl"), said


@pytest.mark.extended
def test_names_that_are_code_stay_names(
    fake_worker: FakeWorker, module_stack: Stack, browser: Browser
) -> None:
    fake_worker.clear()
    names = {"title": HOSTILE[0], "description": HOSTILE[4], "name": "strange"}
    fake_worker.offer(CAMERA, CAMERA.model_copy(update=names))
    settings = module_stack.settings(admin_key=ADMIN_KEY)
    with running_gateway(settings) as house, visit(browser, locale="en-GB") as guest:
        house.created(model="camera", prompt=HOSTILE[0])
        fake_worker.fail(fake_worker.claim("camera"), OutOfMemory(HOSTILE[1]))
        page = guest.page
        sign_in(page, house, ADMIN_KEY)
        page.locator(".clip-open").click()
        expect(page.locator("div.failed")).to_contain_text(HOSTILE[1])
        page.get_by_role("link", name="Admin").click()
        expect(page.locator(".admin")).to_contain_text(HOSTILE[1])
        # The same is true of the name of a photo that no browser can show.
        page.goto(house.url)
        expect(page.locator("#model")).to_contain_text(HOSTILE[0])
        unseen = FilePayload(name=HOSTILE[0] + ".heic", mimeType="image/heic", buffer=b"none")
        page.locator("input[data-for=photos]").set_input_files(unseen)
        expect(page.locator(".is-blind")).to_contain_text(HOSTILE[0])
        assert page.evaluate("window.pwned") is None
        assert guest.complaints[1:] == []  # The first is the 401 that asked for the key.
        assert len(guest.origins()) == 1
