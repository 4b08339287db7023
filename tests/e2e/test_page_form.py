"""The form sends what it shows, and says beforehand what a model cannot make."""

import copy
import re
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect

from api.openapi import MORE_IMAGES
from shared.engines.spec import Honours
from tests.support.browser import Visit
from tests.support.clips import moving_clip, photo, write_clip
from tests.support.gateway import FakeWorker, Gateway
from tests.support.page import choose_sample, enter, finish, plays, press_send
from tests.support.providers.small_engine import SPEC as HOSTED
from worker.engines.camera.engine import SPEC as CAMERA
from worker.engines.camera.read_prompt import read_moves
from worker.video.metadata import Tags

pytestmark = [pytest.mark.long, pytest.mark.timeout(300)]


def test_a_focus_is_sent_in_fractions_of_the_image_that_is_sent(
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
    # The crop is a third of the photo and begins at 0.65 * 2/3, so the photo's middle is near the
    # left edge of the crop.
    assert x == pytest.approx((0.5 - 0.65 * 2 / 3) * 3, abs=0.02)
    assert y == pytest.approx(0.25, abs=0.02)


@pytest.mark.extended
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


@pytest.mark.extended
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


def tomorrow(model: dict[str, Any]) -> dict[str, Any]:
    """Return a future model with one parameter of each kind, described as engines are today."""
    model = copy.deepcopy(model)
    model.update(id="tomorrow", title="Tomorrow", ai_generated=True)
    model["parameters"]["properties"] |= {
        "wind": {"type": "number", "minimum": 0, "maximum": 2, "default": 1, "title": "Wind"},
        "grain": {"type": "string", "enum": ["fine", "coarse"], "default": "fine"},
        "caption": {"type": "string", "maxLength": 40, "title": "Caption"},
        "sky": {"type": "string", "format": "color", "default": "#336699", "title": "Sky"},
        "loop": {"type": "boolean", "default": False, "title": "Loop"},
        "last_frame": MORE_IMAGES["last_frame"],
        "mask": {"type": "string", "contentMediaType": "image/*", "title": "Mask"},
    }
    return model


@pytest.mark.extended
def test_an_engine_of_tomorrow_needs_no_change_of_the_page(
    studio: Gateway, guest: Visit, tmp_path: Path
) -> None:
    page = guest.page
    (camera,) = studio.get("/v1/models").json()["data"]
    model = tomorrow(camera)
    page.route("**/v1/models", lambda route: route.fulfill(json={"data": [camera, model]}))
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
    page.get_by_text("256p").click()
    page.locator("#model").select_option("tomorrow")
    assert page.locator("input[name=resolution][value='256p']").is_checked()  # The choice stays.
    page.get_by_label("Wind").fill("1.5")
    page.get_by_text("coarse").click()
    page.get_by_label("Caption").fill("hello")
    page.get_by_label("Sky").fill("#ff0000")
    page.get_by_label("Loop").check()
    page.get_by_label("Last frame").set_input_files(tmp_path / "last.png")
    page.get_by_label("Mask").set_input_files(tmp_path / "last.png")
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
    for name in (b"last_frame", b"mask"):
        assert b'name="%s"; filename="last.png"' % name in bodies[0]
    assert all("422" in said for said in guest.complaints)
    guest.complaints.clear()  # The browser reports every refusal.


@pytest.mark.extended
def test_a_clip_made_here_loads_its_settings(
    studio: Gateway, guest: Visit, tmp_path: Path
) -> None:
    page = guest.page
    settings = {"engine": "camera", "prompt": "镜头推近。", "seed": 7, "num_frames": 24, "fps": 12}
    write_clip(tmp_path / "mine.mp4", moving_clip(), tags=Tags({**settings, "resolution": "768p"}))
    write_clip(tmp_path / "foreign.mp4", moving_clip())
    longer = Tags({**settings, "engine": "not here", "num_frames": 121})
    write_clip(tmp_path / "longer.mp4", moving_clip(), tags=longer)
    enter(page, studio)
    page.locator("input[data-for=photos]").set_input_files(tmp_path / "mine.mp4")
    expect(page.locator("#prompt")).to_have_value("镜头推近。")
    expect(page.locator("#field-num_frames")).to_have_value("24")
    assert page.locator("input[name=resolution][value='768p']").is_checked()
    page.locator(".further summary").click()
    expect(page.locator("#seed")).to_have_value("7")
    page.locator("input[data-for=photos]").set_input_files(tmp_path / "foreign.mp4")
    expect(page.locator(".toast.bad")).to_contain_text("has no settings")
    page.locator("input[data-for=photos]").set_input_files(tmp_path / "longer.mp4")
    # The form asks for no more than this model can make.
    expect(page.locator("output[for=field-num_frames]")).to_contain_text("32 frames")


@pytest.mark.extended
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


@pytest.mark.extended
def test_a_last_frame_comes_back_with_its_settings_and_is_forgotten_by_a_reload(
    studio: Gateway, fake_worker: FakeWorker, guest: Visit, clip: bytes, tmp_path: Path
) -> None:
    fake_worker.clear()
    honours = (*CAMERA.honours, Honours.LAST_FRAME)
    fake_worker.offer(CAMERA.model_copy(update={"honours": honours}))
    page = guest.page
    photo().resize((64, 64)).save(tmp_path / "end.png")
    has_last = []

    def put() -> None:
        choose_sample(page)
        page.locator(".further summary").click()
        page.get_by_label("Last frame").set_input_files(tmp_path / "end.png")

    def made() -> None:
        press_send(page)
        has_last.append(studio.get("/v1/jobs").json()["data"][0]["input"]["last_frame"])
        job = fake_worker.jobs.claim({CAMERA.name: honours}, worker="hand")
        assert job
        fake_worker.complete(job, clip)
        plays(page)

    enter(page, studio)
    put()
    page.reload()  # A reload forgets the file.
    choose_sample(page)
    page.locator(".further summary").click()
    slot = page.locator(".control", has=page.locator("#field-last_frame"))
    slot.wait_for()
    assert slot.get_by_role("button", name="Remove").count() == 0
    made()
    page.goto(studio.url)
    put()
    made()
    page.get_by_role("button", name="Same settings").click()
    expect(slot).to_contain_text("last-frame.png")
    made()
    assert has_last == [False, True, True]


@pytest.mark.extended
def test_the_size_that_is_said_is_the_clips_and_comes_back_with_its_settings(
    studio: Gateway, fake_worker: FakeWorker, guest: Visit, clip: bytes
) -> None:
    page = guest.page
    enter(page, studio)
    choose_sample(page)
    page.get_by_text("1024p").click()
    page.get_by_text("16:9").click()
    for fit in ("Crop", "Black bars"):
        page.get_by_text(fit).click()
        said = page.locator(".send-note span").inner_text().split(",")[0]
        page.locator(".big").click()
        page.locator(".is-rendering").wait_for()
        sent = studio.get("/v1/jobs").json()["data"][0]["input"]
        assert said == f"{sent['width']} × {sent['height']}"
    finish(fake_worker, clip)
    page.locator(".clip-open").first.wait_for()
    page.get_by_text("As photo").click()
    page.get_by_text("768p").click()
    finish(fake_worker, clip)
    expect(page.locator(".queue")).to_have_count(0)
    page.locator(".clip-open").first.click()
    page.get_by_role("button", name="Same settings").click()
    page.locator(".is-ready").wait_for()
    for name, value in {"resolution": "1024p", "shape": "16:9", "fit": "pad"}.items():
        assert page.locator(f"input[name={name}][value='{value}']").is_checked(), name


def test_a_hosted_model_says_where_the_photo_goes_and_what_it_takes(
    studio: Gateway, fake_worker: FakeWorker, guest: Visit, clip: bytes
) -> None:
    fake_worker.clear()
    fake_worker.offer(HOSTED)
    page = guest.page
    enter(page, studio)
    expect(page.locator(".hosted")).to_contain_text("are sent to Runway, for about $0.1 a second")
    expect(page.get_by_text("512p")).to_have_count(0)
    page.locator(".sample").first.click()
    expect(page.locator(".send")).to_contain_text("2 s, about $0.20")
    page.locator(".big").click()
    page.locator(".is-rendering").wait_for()
    (job,) = studio.get("/v1/jobs").json()["data"]
    assert (job["input"]["width"], job["input"]["height"]) == (96, 64)
    assert any("are sent to Runway" in each for each in job["warnings"])
    fake_worker.claim(HOSTED.name)
    page.locator(".progress").get_by_role("button", name="Cancel").click()
    expect(page.locator(".failed")).to_contain_text("Runway may charge for what it had begun")
    page.get_by_role("button", name="Try again").click()
    page.locator(".is-rendering").wait_for()
    plan = {"price_usd": 0.2, "cost_usd": 0.25}
    fake_worker.complete(fake_worker.claim(HOSTED.name), clip, plan=plan)
    expect(page.locator(".facts")).to_contain_text("Cost$0.25")


@pytest.mark.extended
def test_what_a_model_cannot_hold_is_said_before_it_is_sent(
    studio: Gateway, guest: Visit, tmp_path: Path
) -> None:
    page = guest.page
    files = [tmp_path / "plain.png", tmp_path / "strip.png"]
    photo().resize((90, 60)).save(files[0])
    photo().resize((900, 200)).save(files[1])
    photo().resize((900, 20)).save(tmp_path / "thread.png")
    enter(page, studio)
    page.locator("input[data-for=photos]").set_input_files(tmp_path / "thread.png")
    page.get_by_role("button", name="Crop to 16:9").click()  # It is too long at 256p as well.
    expect(page.locator(".big")).to_be_enabled()
    page.locator("input[data-for=photos]").set_input_files(files)
    page.get_by_text("As photo").click()
    page.get_by_text("768p").click()
    said = page.locator(".send .error")
    expect(said).to_contain_text("Photo 2: At this resolution")
    expect(said).to_contain_text("this model goes up to 3072")
    expect(page.locator(".big")).to_be_disabled()
    page.get_by_role("button", name="Use 512p").click()
    expect(page.locator(".big")).to_be_enabled()
