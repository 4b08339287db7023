"""The page in a real Chromium: from a photo to a clip, and what must never go wrong on the way."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest
from playwright.sync_api import Browser, Page, expect
from sqlalchemy import delete

from shared.errors import OutOfMemory
from shared.tables import sessions
from tests.support.browser import Visit, launched, visit
from tests.support.clips import moving_clip, photo, write_clip
from tests.support.gateway import (
    ADMIN_KEY,
    FakeWorker,
    Gateway,
    fake_worker,
    gateway,
    one_fake_worker,
    one_gateway,
    running_gateway,
)
from tests.support.processes import until
from tests.support.providers.small_engine import SPEC as HOSTED
from tests.support.stack import ROOT, Stack
from worker.engines.camera.engine import SPEC as CAMERA
from worker.engines.camera.read_prompt import read_moves
from worker.video.metadata import Tags

__all__ = ["fake_worker", "gateway", "one_fake_worker", "one_gateway"]

pytestmark = [pytest.mark.long, pytest.mark.timeout(300)]

MOST_BYTES = 120_000
AXE = (ROOT / "tests" / "vendor" / "axe" / "axe.min.js").read_text()
VIDEO = "document.querySelector('.frame video')"
PLAYING = f"{VIDEO} && !{VIDEO}.paused && {VIDEO}.currentTime > 0.05"
PHONE = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True}
HOSTILE = (
    "<img src=x onerror=window.pwned=1>",
    '"><script>window.pwned=1</script>',
    "javascript:window.pwned=1",
    "${window.pwned=1} {{constructor.constructor('window.pwned=1')()}}",
    "</textarea><svg onload=window.pwned=1>",
    "\u202egnp.exe \u0000\ufeff' onfocus=window.pwned=1 autofocus='".replace("\u0000", ""),
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    # A name that is not this machine's own: a browser trusts it as little as one in a network.
    with launched(arguments=["--host-resolver-rules=MAP studio 127.0.0.1"]) as found:
        yield found


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """What a worker makes of any photo: one second, in motion."""
    return write_clip(tmp_path_factory.mktemp("clip") / "clip.mp4", moving_clip()).read_bytes()


@pytest.fixture
def studio(gateway: Gateway, fake_worker: FakeWorker) -> Gateway:
    """A gateway whose only engine is `camera`, served by `hand`."""
    fake_worker.clear()
    fake_worker.offer(CAMERA)
    return gateway


@pytest.fixture
def guest(browser: Browser) -> Iterator[Visit]:
    """A visitor; whatever the page complains of, or asks of another origin, fails the test."""
    with visit(browser, locale="en-GB") as guest:
        yield guest
        assert guest.complaints == []
        assert len(guest.origins()) == 1


def enter(page: Page, studio: Gateway, path: str = "/") -> None:
    page.goto(f"{studio.url}{path}")
    page.locator(".make, .sign-in").first.wait_for()


def send(page: Page, studio: Gateway) -> None:
    """Send a sample photo."""
    enter(page, studio)
    page.locator(".sample").first.click()
    page.locator(".big").click()
    page.locator(".is-rendering").wait_for()


def finish(fake_worker: FakeWorker, clip: bytes) -> None:
    fake_worker.complete(fake_worker.claim("camera"), clip)


def plays(page: Page) -> None:
    until(lambda: page.evaluate(PLAYING), "the clip plays")


def violations(page: Page) -> list[str]:
    """Return what axe finds; its script is handed over, since the page's policy loads none."""
    page.evaluate(AXE)
    # A transition that is half done has colours that nobody chose.
    page.wait_for_function("document.getAnimations().every(a => a.playState !== 'pending')")
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")["violations"]
    return [f"{each['id']}: {node['html']}" for each in found for node in each["nodes"]]


def test_two_clicks_lead_from_a_cold_page_to_a_playing_clip(
    studio: Gateway, fake_worker: FakeWorker, guest: Visit, clip: bytes
) -> None:
    send(guest.page, studio)
    finish(fake_worker, clip)
    plays(guest.page)
    assert guest.page.evaluate(f"{VIDEO}.muted && {VIDEO}.loop")
    guest.page.locator(".library .clip").wait_for()


def test_the_same_way_goes_by_keyboard(
    studio: Gateway, fake_worker: FakeWorker, guest: Visit, clip: bytes
) -> None:
    page = guest.page
    enter(page, studio)
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.className") == "sample":
            break
    outline = "getComputedStyle(document.activeElement).outlineStyle"
    assert page.evaluate(outline) == "solid"
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
    fake_worker.complete(job, clip)
    plays(page)


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
    page.locator(".progress button").click()
    expect(page.locator(".failed h2")).to_have_text("Canceled")
    assert page.locator("#prompt").input_value() == "The camera slowly pushes in."
    assert studio.get("/v1/jobs").json()["data"][0]["status"] == "canceled"


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
    assert guest.page.locator("#prompt").input_value() == "The camera slowly pushes in."


def test_five_photos_become_one_batch_with_one_progress_and_one_zip(
    studio: Gateway, fake_worker: FakeWorker, guest: Visit, clip: bytes, tmp_path: Path
) -> None:
    page = guest.page
    files = [tmp_path / f"{number}.jpg" for number in range(5)]
    for file in files:
        photo().resize((96, 72)).save(file)
    enter(page, studio)
    page.locator("input[data-for=photos]").set_input_files(files)
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
    page.get_by_role("button", name="Close").click()
    with page.expect_download() as saved:
        page.get_by_role("link", name="Download all (zip)").click()
    assert len(ZipFile(saved.value.path()).namelist()) == 6  # And results.csv.


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
        page.get_by_role("button", name="Frame after").click()
        until(lambda: count.inner_text() != seen[-1], "the next frame shows")
        seen.append(count.inner_text())
    assert [each.split(" ")[0] for each in seen] == ["1", "2", "3"]
    assert page.evaluate(f"{VIDEO}.paused")


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


def test_offline_and_back(
    studio: Gateway, fake_worker: FakeWorker, browser: Browser, clip: bytes
) -> None:
    with visit(browser, locale="en-GB") as guest:
        send(guest.page, studio)
        guest.page.context.set_offline(True)
        expect(guest.page.locator(".banner")).to_contain_text("Your jobs go on")
        finish(fake_worker, clip)
        guest.page.context.set_offline(False)
        plays(guest.page)
        expect(guest.page.locator(".banner")).to_have_count(0)


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


def test_a_key_is_asked_for_once_and_stored_nowhere(
    browser: Browser, module_stack: Stack, fake_worker: FakeWorker, clip: bytes
) -> None:
    fake_worker.clear()
    fake_worker.offer(CAMERA)
    settings = module_stack.settings(admin_key=ADMIN_KEY)
    with running_gateway(settings) as house, visit(browser, locale="en-GB") as guest:
        page = guest.page
        enter(page, house)
        assert violations(page) == []
        page.locator("#key").fill("sr_wrong")
        page.keyboard.press("Enter")
        expect(page.locator(".sign-in .error")).to_contain_text("not valid")
        page.locator("#key").fill(ADMIN_KEY)
        page.keyboard.press("Enter")
        page.locator(".sample").first.click()
        page.locator(".big").click()
        page.locator(".is-rendering").wait_for()
        finish(fake_worker, clip)
        plays(page)  # A video element sends no key: its link works alone.
        kept = "JSON.stringify([{...localStorage}, {...sessionStorage}, document.cookie])"
        assert ADMIN_KEY not in page.evaluate(kept) + page.url
        page.get_by_role("link", name="Admin").click()
        expect(page.locator(".admin table").first).to_contain_text("hand")
        assert violations(page) == []
        (cookie,) = guest.page.context.cookies()
        assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Strict")
        page.goto(house.url)
        page.locator(".make").first.wait_for()  # The session outlives the page that began it.
        with fake_worker.db.begin() as connection:
            connection.execute(delete(sessions))
        house.ports.session_cache.forget(cookie["value"])
        page.reload()
        page.locator(".sign-in").first.wait_for()


def test_a_session_hears_of_progress_without_asking(
    browser: Browser, module_stack: Stack, fake_worker: FakeWorker, clip: bytes
) -> None:
    fake_worker.clear()
    fake_worker.offer(CAMERA)
    settings = module_stack.settings(admin_key=ADMIN_KEY)
    with running_gateway(settings) as house, visit(browser, locale="en-GB") as guest:
        page = guest.page
        enter(page, house)
        page.locator("#key").fill(ADMIN_KEY)
        page.keyboard.press("Enter")
        page.locator(".sample").first.click()
        page.locator(".big").click()
        page.locator(".is-rendering").wait_for()
        job = fake_worker.claim("camera")
        fake_worker.beat(job, 4)
        with page.expect_request(lambda request: request.url.endswith("/v1/events")):
            page.reload()
        expect(page.locator(".progress-line")).to_contain_text("step 4 of 10")
        # From here on no question about jobs is answered.
        page.route(re.compile(r"/v1/jobs(\?.*|/job_\w+)$"), lambda _: None)
        fake_worker.beat(job, 7)
        expect(page.locator(".progress-line")).to_contain_text("step 7 of 10")
        fake_worker.complete(job, clip)
        plays(page)
        assert guest.complaints[1:] == []  # The first is the 401 that asked for the key.
        page.unroute_all(behavior="ignoreErrors")


def test_a_focus_is_sent_in_fractions_of_the_picture_that_is_sent(
    studio: Gateway, fake_worker: FakeWorker, guest: Visit, tmp_path: Path
) -> None:
    page = guest.page
    photo().resize((300, 100)).save(tmp_path / "wide.png")
    enter(page, studio)
    page.locator("input[data-for=photos]").set_input_files(tmp_path / "wide.png")
    box = page.locator(".shown").bounding_box()
    assert box
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 4)
    page.get_by_text("1:1").click()
    page.locator(".shown.can-move").focus()
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    page.locator(".big").click()
    page.locator(".is-rendering").wait_for()
    x, y = studio.get("/v1/jobs").json()["data"][0]["input"]["focus"]
    # A third of the photo is left of it, from 0.65 * 2/3 on: its middle is near the left edge.
    assert x == pytest.approx((0.5 - 0.65 * 2 / 3) * 3, abs=0.02)
    assert y == pytest.approx(0.25, abs=0.02)


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
        page.locator(".further summary").tap()
        widths.append(page.evaluate("document.documentElement.scrollWidth"))
        page.locator(".big").tap()
        page.locator(".is-rendering").wait_for()
        finish(fake_worker, clip)
        plays(page)
        widths.append(page.evaluate("document.documentElement.scrollWidth"))
        in_view = f"{VIDEO}.getBoundingClientRect().top < innerHeight / 2"
        until(lambda: page.evaluate(in_view), "the clip is in view")
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
        # Browsers note that this header counts on https and on this machine only.
        assert [said for said in guest.complaints if "Cross-Origin-Opener" not in said] == []


def test_chips_and_words_agree_with_what_the_engine_reads(studio: Gateway, guest: Visit) -> None:
    enter(guest.page, studio)
    said = guest.page.evaluate(
        """async () => {
          const { MOVES, SPEEDS, sentence, readPrompt, toggle } = await import("/web/moves.js");
          const pairs = MOVES.flatMap((first) => MOVES.map((next) => toggle([first], next)));
          const all = [...MOVES.map((name) => [name]), ...pairs.filter((each) => each.length)];
          const said = (moves, speed, language) => {
            const text = sentence(moves, speed, language);
            return [text, moves, speed, readPrompt(text)];
          };
          return ["en", "zh"].flatMap((language) =>
            SPEEDS.flatMap((speed) => all.map((moves) => said(moves, speed, language))));
        }"""
    )
    assert len(said) > 300
    for text, moves, speed, read in said:
        assert read["moves"] == moves, text
        understood = read_moves(text).moves
        assert {move.name.value for move in understood} == set(moves), text
        if moves != ["still"]:
            assert read["speed"] == speed, text
            assert {move.speed.value for move in understood} == {speed}, text


def test_a_chip_changes_its_words_and_leaves_the_others(studio: Gateway, guest: Visit) -> None:
    page = guest.page
    enter(page, studio)
    prompt = page.locator("#prompt")
    prompt.fill("A quiet morning.")
    page.get_by_role("button", name="Pan left", exact=True).click()
    expect(prompt).to_have_value("A quiet morning. The camera pans left.")
    page.get_by_role("button", name="Push in", exact=True).click()
    expect(prompt).to_have_value("A quiet morning. The camera pans left and pushes in.")
    page.get_by_role("button", name="Pan right", exact=True).click()
    expect(prompt).to_have_value("A quiet morning. The camera pushes in and pans right.")
    page.get_by_text("Gentle").click()
    expect(prompt).to_have_value("A quiet morning. The camera slowly pushes in and pans right.")
    for name in ("Push in", "Pan right"):
        page.get_by_role("button", name=name, exact=True).click()
    expect(prompt).to_have_value("A quiet morning.")


def test_an_engine_of_tomorrow_needs_no_change_of_the_page(
    studio: Gateway, guest: Visit, tmp_path: Path
) -> None:
    page = guest.page
    model = studio.get("/v1/models").json()["data"][0]
    model.update(id="tomorrow", title="Tomorrow", ai_generated=True)
    model["parameters"]["properties"] |= {
        "wind": {"type": "number", "minimum": 0, "maximum": 2, "default": 1, "title": "Wind"},
        "grain": {"type": "string", "enum": ["fine", "coarse"], "default": "fine"},
        "caption": {"type": "string", "maxLength": 40, "title": "Caption"},
        "sky": {"type": "string", "format": "color", "default": "#336699", "title": "Sky"},
        "loop": {"type": "boolean", "default": False, "title": "Loop"},
        "last_frame": {"type": "string", "contentMediaType": "image/*", "title": "Last frame"},
    }
    page.route("**/v1/models", lambda route: route.fulfill(json={"data": [model]}))
    page.route("**/v1/models/tomorrow/estimate?*", lambda route: route.fulfill(json={}))
    bodies: list[bytes] = []

    def keep(route: Any) -> None:
        bodies.append(route.request.post_data_buffer or b"")
        route.fulfill(status=422, json={"code": "invalid_request", "detail": "seen", "errors": []})

    page.route(re.compile(r"/v1/jobs$"), keep)
    photo().resize((64, 64)).save(tmp_path / "last.png")
    enter(page, studio)
    page.locator(".sample").first.click()
    page.locator(".further summary").click()
    page.get_by_label("Wind").fill("1.5")
    page.get_by_text("coarse").click()
    page.get_by_label("Caption").fill("hello")
    page.get_by_label("Sky").fill("#ff0000")
    page.get_by_label("Loop").check()
    page.get_by_label("Last frame").set_input_files(tmp_path / "last.png")
    page.locator(".big").click()
    expect(page.locator(".send .error")).to_have_text("seen")
    parts = re.findall(
        rb'name="(\w+)"(?:; filename="([^"]+)")?.*?\r\n\r\n(.{0,20}?)\r\n', bodies[0], re.S
    )
    sent = {name.decode(): value for name, _, value in parts}
    assert sent["wind"] == b"1.5"
    assert sent["grain"] == b"coarse"
    assert sent["caption"] == b"hello"
    assert sent["sky"] == b"#ff0000"
    assert sent["loop"] == b"true"
    assert b'name="last_frame"; filename="last.png"' in bodies[0]
    assert all("422" in said for said in guest.complaints)
    guest.complaints.clear()  # The browser notes every refusal.


def test_a_clip_made_here_loads_its_settings(
    studio: Gateway, guest: Visit, tmp_path: Path
) -> None:
    page = guest.page
    settings = {"engine": "camera", "prompt": "镜头推近。", "seed": 7, "num_frames": 24, "fps": 12}
    write_clip(tmp_path / "mine.mp4", moving_clip(), tags=Tags({**settings, "resolution": "768p"}))
    write_clip(tmp_path / "foreign.mp4", moving_clip())
    enter(page, studio)
    page.locator("input[data-for=photos]").set_input_files(tmp_path / "mine.mp4")
    expect(page.locator("#prompt")).to_have_value("镜头推近。")
    expect(page.locator("#field-num_frames")).to_have_value("24")
    assert page.locator("input[name=resolution][value='768p']").is_checked()
    page.locator(".further summary").click()
    expect(page.locator("#seed")).to_have_value("7")
    page.locator("input[data-for=photos]").set_input_files(tmp_path / "foreign.mp4")
    expect(page.locator(".toast.bad")).to_contain_text("carries no settings")


def test_a_crop_that_was_moved_is_what_is_sent(
    studio: Gateway, fake_worker: FakeWorker, guest: Visit, tmp_path: Path
) -> None:
    page = guest.page
    photo().resize((300, 100)).save(tmp_path / "wide.png")
    enter(page, studio)
    page.locator("input[data-for=photos]").set_input_files(tmp_path / "wide.png")
    page.get_by_text("1:1").click()
    page.locator(".shown.can-move").focus()
    for _ in range(12):
        page.keyboard.press("ArrowRight")
    page.locator(".big").click()
    page.locator(".is-rendering").wait_for()
    job = studio.get("/v1/jobs").json()["data"][0]
    assert (job["input"]["image_width"], job["input"]["image_height"]) == (100, 100)
    assert job["input"]["width"] == job["input"]["height"] == 512


def test_what_a_model_cannot_hold_is_said_before_it_is_sent(
    studio: Gateway, guest: Visit, tmp_path: Path
) -> None:
    page = guest.page
    photo().resize((900, 200)).save(tmp_path / "strip.png")
    enter(page, studio)
    page.locator("input[data-for=photos]").set_input_files(tmp_path / "strip.png")
    page.get_by_text("768p").click()
    expect(page.locator(".send .error")).to_contain_text("this model goes up to 3072")
    expect(page.locator(".big")).to_be_disabled()
    page.get_by_role("button", name="Use 512p").click()
    expect(page.locator(".big")).to_be_enabled()


def test_a_hosted_model_says_where_the_photo_goes_and_what_it_takes(
    studio: Gateway, fake_worker: FakeWorker, guest: Visit
) -> None:
    fake_worker.clear()
    fake_worker.offer(HOSTED)
    page = guest.page
    enter(page, studio)
    expect(page.locator(".hosted")).to_contain_text("sent to Runway, which takes about $0.1")
    expect(page.get_by_text("512p")).to_have_count(0)
    page.locator(".sample").first.click()
    page.locator(".big").click()
    page.locator(".is-rendering").wait_for()
    (job,) = studio.get("/v1/jobs").json()["data"]
    assert (job["input"]["width"], job["input"]["height"]) == (96, 64)
    assert any("are sent to Runway" in each for each in job["warnings"])


def test_both_languages_have_every_word(studio: Gateway, guest: Visit) -> None:
    enter(guest.page, studio)
    names = guest.page.evaluate(
        """Promise.all(['en', 'zh'].map(async (language) => {
          const first = await import(`/web/${language}.js`);
          const later = await import(`/web/${language}-later.js`);
          return Object.entries({ ...first.default, ...later.default });
        }))"""
    )
    english, chinese = (dict(each) for each in names)
    assert english.keys() == chinese.keys()
    for name, words in chinese.items():
        assert set(re.findall(r"\{\w+\}", words)) == set(re.findall(r"\{\w+\}", english[name])), (
            name
        )


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
    for path in ("/", "/web/main.js", "/web/vendor/preact.mjs", "/web/style.css"):
        first = studio.get(path)
        assert first.headers["Cache-Control"] == "no-cache"
        again = studio.get(path, headers={"If-None-Match": first.headers["ETag"]})
        assert (again.status_code, again.content) == (304, b""), path
    policy = studio.get("/").headers["Content-Security-Policy"]
    assert "unsafe" not in policy
    assert "http" not in policy
