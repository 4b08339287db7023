"""The page in a real Chromium: every way from a photo to a clip."""

import re
from pathlib import Path
from typing import Final, Literal
from zipfile import ZipFile

import pytest
from playwright.sync_api import Browser, expect

from shared.errors import OutOfMemory
from shared.lifecycle import Stage
from tests.support.browser import Visit, visit
from tests.support.clips import photo
from tests.support.gateway import FakeWorker, Gateway
from tests.support.page import PHONE, VIDEO, enter, finish, plays, send, violations
from tests.support.processes import until

pytestmark = [pytest.mark.long, pytest.mark.timeout(300)]

MOVING: Final = "document.getAnimations().filter(a => a.playState === 'running').length"


@pytest.mark.parametrize(
    ("motion", "moves"),
    [("no-preference", True), pytest.param("reduce", False, marks=pytest.mark.extended)],
)
def test_two_clicks_lead_from_a_cold_page_to_a_playing_clip(
    studio: Gateway,
    fake_worker: FakeWorker,
    browser: Browser,
    clip: bytes,
    motion: Literal["no-preference", "reduce"],
    moves: bool,
) -> None:
    with visit(browser, locale="en-GB", reduced_motion=motion) as guest:
        page = guest.page
        send(page, studio)
        until(lambda: bool(page.evaluate(f"{MOVING} > 0")) == moves, "it moves as was asked for")
        finish(fake_worker, clip)
        plays(page)
        assert page.evaluate(f"{VIDEO}.muted && {VIDEO}.loop")
        # The time is written as in the reader's country.
        expect(page.locator(".library .clip time")).to_have_text(re.compile(r"^\d\d:\d\d$"))
        assert guest.complaints == []
        assert len(guest.origins()) == 1


@pytest.mark.extended
def test_the_same_way_goes_by_four_keys(
    studio: Gateway, fake_worker: FakeWorker, guest: Visit, clip: bytes
) -> None:
    page = guest.page
    enter(page, studio)
    page.locator(".sample").first.wait_for()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")  # This link skips all that a sample does not need.
    assert page.evaluate("document.activeElement.className") == "sample"
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.keyboard.press("Enter")
    page.locator(".is-ready").wait_for()
    page.keyboard.press("Control+Enter")
    page.locator(".is-rendering").wait_for()
    finish(fake_worker, clip)
    plays(page)


def test_a_reload_in_mid_render_finds_the_job_where_it_is(
    studio: Gateway, fake_worker: FakeWorker, guest: Visit, clip: bytes
) -> None:
    page = guest.page
    send(page, studio)
    job = fake_worker.claim("camera")
    fake_worker.beat(job, 4)
    expect(page.locator(".progress-line")).to_contain_text("step 4 of 10")
    until(lambda: "%" in page.title(), "the title tells the progress")
    page.reload()
    expect(page.locator(".progress-line")).to_contain_text("step 4 of 10")
    expect(page.locator(".queue li")).to_have_count(1)
    # The camera engine only draws frames, so half of the frames is half of its time.
    fake_worker.beat(job, 5, stage=Stage.DECODING)
    until(lambda: page.title().startswith("50 %"), "the title tells how much is drawn")
    fake_worker.complete(job, clip)
    plays(page)


@pytest.mark.extended
def test_a_job_from_elsewhere_shows_in_the_queue(
    studio: Gateway, fake_worker: FakeWorker, guest: Visit
) -> None:
    enter(guest.page, studio)
    studio.created(prompt="from another device")
    guest.page.evaluate("dispatchEvent(new Event('focus'))")
    expect(guest.page.locator(".queue li")).to_contain_text("from another device")


def test_cancel_ends_a_job_and_keeps_the_form(
    studio: Gateway, fake_worker: FakeWorker, guest: Visit
) -> None:
    page = guest.page
    send(page, studio)
    page.locator(".progress button").focus()
    page.keyboard.press("Enter")
    expect(page.locator(".failed h2")).to_have_text("Canceled")
    # The button is gone, and the focus is where the button was.
    assert page.evaluate("document.activeElement.className") == "stage"
    page.go_back()
    expect(page.locator(".is-ready")).to_be_visible()
    page.go_forward()
    expect(page.locator(".failed h2")).to_have_text("Canceled")
    assert page.locator("#prompt").input_value() == "The camera slowly pushes in."
    assert studio.get("/v1/jobs").json()["data"][0]["status"] == "canceled"


@pytest.mark.extended
def test_a_failure_says_what_happened_and_the_way_out(
    studio: Gateway, fake_worker: FakeWorker, guest: Visit
) -> None:
    send(guest.page, studio)
    fake_worker.fail(
        fake_worker.claim("camera"), OutOfMemory("the card has 4 GiB and this takes 9")
    )
    failed = guest.page.locator(".stage .failed")
    expect(failed).to_contain_text("the card has 4 GiB and this takes 9")
    expect(failed).to_contain_text("Choose a lower resolution or fewer frames")
    assert violations(guest.page) == []
    assert guest.page.locator("#prompt").input_value() == "The camera slowly pushes in."


def test_five_photos_become_one_batch_with_one_progress_and_one_zip(
    studio: Gateway, fake_worker: FakeWorker, guest: Visit, clip: bytes, tmp_path: Path
) -> None:
    page = guest.page
    files = [tmp_path / f"{number}.jpg" for number in range(5)]
    for file in files:
        photo().resize((96, 72)).save(file)
    wrong = [tmp_path / "paper.pdf", tmp_path / "broken.jpg"]
    for file in wrong:
        file.write_bytes(b"%PDF-1.7")
    enter(page, studio)
    page.locator("input[data-for=photos]").set_input_files([*files, *wrong])
    expect(page.locator(".toast.bad")).to_contain_text("2 of the files cannot be used")
    page.get_by_role("button", name="Generate 5 clips").click()
    expect(page.locator(".queue li")).to_have_count(5)
    finish(fake_worker, clip)
    expect(page.locator(".together")).to_contain_text("1 of 5 done")
    for _ in range(4):
        finish(fake_worker, clip)
    page.get_by_role("button", name="Compare 5").click()
    expect(page.locator(".compare video")).to_have_count(5)
    (batch,) = studio.get("/v1/batches").json()["data"]
    assert batch["counts"]["succeeded"] == 5
    page.locator("dialog").get_by_role("button", name="Close").click()
    with page.expect_download() as saved:
        page.get_by_role("link", name="Download all (zip)").click()
    assert len(ZipFile(saved.value.path()).namelist()) == 6  # There is also results.csv.


@pytest.mark.extended
def test_frames_are_stepped_through_one_by_one(
    studio: Gateway, fake_worker: FakeWorker, guest: Visit, clip: bytes
) -> None:
    page = guest.page
    studio.created()
    finish(fake_worker, clip)
    enter(page, studio)
    page.locator(".clip-open").click()
    plays(page)
    page.locator(".transport input").fill("0")
    count = page.locator(".transport .count")
    seen = [count.inner_text()]
    for _ in range(2):
        page.get_by_role("button", name="Next frame").click()
        until(lambda: count.inner_text() != seen[-1], "the next frame shows")
        seen.append(count.inner_text())
    assert [each.split(" ")[0] for each in seen] == ["1", "2", "3"]
    assert page.evaluate(f"{VIDEO}.paused")


@pytest.mark.extended
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing_on_the_way(
    studio: Gateway, fake_worker: FakeWorker, browser: Browser, clip: bytes, theme: str
) -> None:
    with visit(browser, locale="en-GB", color_scheme=theme, reduced_motion="reduce") as guest:
        page = guest.page
        enter(page, studio)
        found = {"empty": violations(page)}
        page.locator(".sample").first.click()
        page.locator(".further summary").click()
        page.locator(".is-ready").wait_for()
        found["ready"] = violations(page)
        page.locator(".big").click()
        page.locator(".is-rendering").wait_for()
        found["queued"] = violations(page)
        finish(fake_worker, clip)
        plays(page)
        page.locator(".clip").wait_for()
        found["done"] = violations(page)
        page.get_by_role("button", name="As code").click()
        found["code"] = violations(page)
        assert found == {state: [] for state in found}


def test_on_a_phone_in_chinese_nothing_is_wider_than_the_screen(
    studio: Gateway, fake_worker: FakeWorker, browser: Browser, clip: bytes
) -> None:
    with visit(browser, locale="zh-CN", **PHONE) as guest:
        page = guest.page
        enter(page, studio)
        assert page.evaluate("document.documentElement.lang") == "zh"
        expect(page.locator(".big")).to_have_text("生成")
        widths = [page.evaluate("document.documentElement.scrollWidth")]
        page.locator(".narrow-samples button").first.tap()
        expect(page.locator("#prompt")).to_have_value("镜头缓慢推近。")
        expect(page.locator(".prompt .warn")).to_have_count(0)  # The engine reads Chinese.
        page.set_viewport_size({"width": 844, "height": 390})
        assert page.evaluate("document.querySelector('.send').offsetHeight") < 80
        page.set_viewport_size({"width": 390, "height": 844})
        page.locator(".further summary").tap()
        widths.append(page.evaluate("document.documentElement.scrollWidth"))
        page.locator(".big").tap()
        page.locator(".is-rendering").wait_for()
        finish(fake_worker, clip)
        plays(page)
        widths.append(page.evaluate("document.documentElement.scrollWidth"))
        in_view = f"{VIDEO}.getBoundingClientRect().top < innerHeight / 2"
        until(lambda: page.evaluate(in_view), "the clip is in view")
        page.get_by_role("button", name="相同设置").tap()
        form = "document.querySelector('.make').getBoundingClientRect().top"
        until(lambda: page.evaluate(f"{form} > 0"), "the form is in view")
        assert widths == [390, 390, 390]


def test_on_plain_http_in_a_network_all_works_that_browsers_allow(
    studio: Gateway, fake_worker: FakeWorker, browser: Browser, clip: bytes
) -> None:
    with visit(browser, locale="en-GB") as guest:
        page = guest.page
        page.goto(f"http://studio:{studio.port}/")
        assert page.evaluate("isSecureContext") is False
        page.locator(".sample").first.click()
        page.locator(".big").click()
        page.locator(".is-rendering").wait_for()
        expect(page.get_by_role("button", name="Tell me when done")).to_have_count(0)
        finish(fake_worker, clip)
        plays(page)
        page.get_by_role("button", name="Copy link").click()
        expect(page.locator(".toast")).to_contain_text("Copied")
        # Browsers warn that this header works only on https and on this machine.
        assert [said for said in guest.complaints if "Cross-Origin-Opener" not in said] == []
