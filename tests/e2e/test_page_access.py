"""Who may use the page: keys, sessions and login headers in a browser."""

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect
from sqlalchemy import delete

from shared.errors import OutOfMemory
from shared.tables.access import api_keys
from tests.support.browser import visit
from tests.support.gateway import ADMIN_KEY, FakeWorker, Gateway, running_gateway
from tests.support.page import (
    PHONE,
    WIDTH,
    choose_sample,
    end_sessions,
    enter,
    finish,
    plays,
    press_send,
    sign_in,
    violations,
)
from tests.support.stack import Stack
from tests.support.tenants import KeyAdmin, key_admin_of
from worker.engines.camera.engine import SPEC as CAMERA

pytestmark = [pytest.mark.long, pytest.mark.timeout(300)]

LOGIN = "X-Remote-User"
LATE_EFFECTS = """
  const wait = setTimeout;
  window.requestAnimationFrame = () => 0;
  window.setTimeout = (task, ms, ...rest) => wait(task, Math.max(ms ?? 0, 1000), ...rest);
"""


@pytest.fixture(scope="module")
def one_house(module_stack: Stack) -> Iterator[Gateway]:
    settings = module_stack.settings(
        admin_key=ADMIN_KEY,
        trusted_header=LOGIN,
        trusted_proxy="10.9.9.9/32",
        trusted_admins="boss",
    )
    with running_gateway(settings) as house:
        yield house


@pytest.fixture
def house(one_house: Gateway, fake_worker: FakeWorker) -> Gateway:
    """A gateway with an admin key and a login proxy; no visitor here comes through the proxy."""
    fake_worker.clear()
    fake_worker.offer(CAMERA)
    return one_house


@pytest.fixture
def key_admin(module_stack: Stack) -> Iterator[KeyAdmin]:
    with key_admin_of(module_stack.settings()) as locksmith:
        yield locksmith
        with locksmith.db.begin() as connection:
            connection.execute(delete(api_keys))


def test_a_key_is_asked_for_once_and_stored_nowhere(
    browser: Browser, house: Gateway, fake_worker: FakeWorker, clip: bytes
) -> None:
    with visit(browser, locale="en-GB") as guest:
        page = guest.page
        enter(page, house)
        assert violations(page) == []
        expect(page.locator(".sign-in")).to_contain_text("make key NAME=me")
        page.locator("#key").fill("sr_wrong")
        page.keyboard.press("Enter")
        expect(page.locator(".sign-in .error")).to_contain_text("not valid")
        page.locator("#key").fill(ADMIN_KEY)
        page.keyboard.press("Enter")
        choose_sample(page)
        press_send(page)
        finish(fake_worker, clip)
        plays(page)  # A video element sends no key, so its link works alone.
        kept = "JSON.stringify([{...localStorage}, {...sessionStorage}, document.cookie])"
        assert ADMIN_KEY not in page.evaluate(kept) + page.url
        page.get_by_role("link", name="Admin").click()
        expect(page.locator(".admin table").first).to_contain_text("hand")
        assert violations(page) == []
        (cookie,) = guest.page.context.cookies()
        assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Strict")
        page.goto(house.url)
        page.locator(".make").first.wait_for()  # The session still works on a new page.
        # A link to a clip leads to the clip, also after a sign-in on the way.
        page.locator(".clip-open").click()
        plays(page)
        page.context.clear_cookies()
        page.reload()
        page.locator("#key").fill(ADMIN_KEY)
        page.keyboard.press("Enter")
        plays(page)


# In each run tests/e2e/test_page_words.py checks that both languages have every word.
@pytest.mark.extended
def test_in_chinese_too_the_page_says_where_a_key_comes_from(
    browser: Browser, house: Gateway
) -> None:
    with visit(browser, locale="zh-CN") as guest:
        # On a busy machine the answer is there before the page listens for changes.
        guest.page.add_init_script(LATE_EFFECTS)
        enter(guest.page, house)
        expect(guest.page.locator(".sign-in")).to_contain_text("服务器管理员可这样创建密钥")
        guest.page.locator("#key").fill("sr_wrong")
        guest.page.keyboard.press("Enter")
        expect(guest.page.locator(".sign-in .error")).to_contain_text("密钥无效")


@pytest.mark.extended
def test_a_session_hears_of_progress_without_asking(
    browser: Browser, house: Gateway, fake_worker: FakeWorker, clip: bytes
) -> None:
    with visit(browser, locale="en-GB") as guest:
        page = guest.page
        sign_in(page, house, ADMIN_KEY)
        choose_sample(page)
        press_send(page)
        job = fake_worker.claim("camera")
        fake_worker.beat(job, 4)
        with page.expect_request(lambda request: request.url.endswith("/v1/events")):
            page.reload()
        expect(page.locator(".progress-line")).to_contain_text("step 4 of 10")
        # From here on, the page gets no answer to requests about jobs.
        page.route(re.compile(r"/v1/jobs(\?.*|/job_\w+)$"), lambda _: None)
        fake_worker.beat(job, 7)
        expect(page.locator(".progress-line")).to_contain_text("step 7 of 10")
        fake_worker.complete(job, clip)
        plays(page)
        assert guest.complaints[1:] == []  # The first is the 401 that asked for the key.
        page.unroute_all(behavior="ignoreErrors")


def test_two_keys_see_nothing_of_each_other(
    browser: Browser,
    house: Gateway,
    fake_worker: FakeWorker,
    key_admin: KeyAdmin,
    clip: bytes,
) -> None:
    _, alice = key_admin.holder(house, "alice")
    _, bob = key_admin.holder(house, "bob")
    assert alice.text
    assert bob.text
    with visit(browser, locale="en-GB") as hers, visit(browser, locale="en-GB") as his:
        sign_in(hers.page, house, alice.text)
        sign_in(his.page, house, bob.text)
        choose_sample(hers.page)
        hers.page.locator("#prompt").fill("push in, for alice only")
        press_send(hers.page)
        job_id = hers.page.url.split("#")[1]
        own = bob.created()
        his.page.goto(f"{house.url}/#{job_id}")  # Bob even has the link to it.
        his.page.reload()
        expect(his.page.locator(".queue li")).to_have_count(1)
        assert "alice" not in his.page.content()
        finish(fake_worker, clip)
        plays(hers.page)
        bob.send("POST", f"/v1/jobs/{own}/cancel")
        expect(his.page.locator(".clip")).to_have_count(1)
        expect(his.page.locator(".clip")).to_contain_text("Canceled")
        assert "alice" not in his.page.content()
        # A person who signs in after her at the same window sees neither her clips nor her form.
        hers.page.get_by_role("button", name="Sign out").click()
        hers.page.locator("#key").fill(bob.text)
        hers.page.keyboard.press("Enter")
        expect(hers.page.locator(".clip")).to_have_count(1)
        expect(hers.page.locator(".clip")).to_contain_text("Canceled")
        assert hers.page.locator("#prompt").input_value() == ""
        assert "alice" not in hers.page.content()
        assert hers.page.locator(".shown").count() == 0


@pytest.mark.extended
def test_a_session_that_ends_keeps_the_form(
    browser: Browser, house: Gateway, fake_worker: FakeWorker
) -> None:
    with visit(browser, locale="en-GB") as guest:
        page = guest.page
        sign_in(page, house, ADMIN_KEY)
        choose_sample(page)
        page.locator("#prompt").fill("push in and pan left, kept")
        page.locator("#field-num_frames").fill("24")
        end_sessions(house, fake_worker, *(each["value"] for each in page.context.cookies()))
        # The page may notice this by itself before the test clicks.
        page.evaluate("document.querySelector('.big')?.click()")
        expect(page.locator(".sign-in .error")).to_contain_text("Your session has ended")
        page.locator("#key").fill(ADMIN_KEY)
        page.keyboard.press("Enter")
        expect(page.locator("#prompt")).to_have_value("push in and pan left, kept")
        expect(page.locator("#field-num_frames")).to_have_value("24")
        press_send(page)
        (job,) = house.get("/v1/jobs").json()["data"]
        assert job["input"]["prompt"] == "push in and pan left, kept"
        assert job["input"]["num_frames"] == 24


def test_a_forged_login_header_lets_nobody_in(browser: Browser, house: Gateway) -> None:
    with visit(browser, locale="en-GB", extra_http_headers={LOGIN: "boss"}) as guest:
        enter(guest.page, house)
        told = guest.page.locator(".sign-in .error")
        expect(told).to_contain_text("did not come through the server's login page")
        guest.page.goto(f"{house.url}/admin")
        expect(guest.page.locator(".sign-in .error")).to_be_visible()
        assert guest.page.locator(".admin").count() == 0


@pytest.mark.extended
def test_admin_is_offered_to_admins_only(
    browser: Browser, house: Gateway, key_admin: KeyAdmin
) -> None:
    _, alice = key_admin.holder(house, "alice")
    assert alice.text
    with visit(browser, locale="en-GB") as guest:
        sign_in(guest.page, house, alice.text)
        assert guest.page.get_by_role("link", name="Admin").count() == 0
        guest.page.goto(f"{house.url}/admin")
        expect(guest.page.locator(".admin")).to_contain_text("For admins only")
        # The page knows this without trying, so the server refused nothing with 403.
        assert [said for said in guest.complaints if "403" in said] == []


@pytest.mark.extended
def test_on_a_phone_no_table_of_admins_is_wider_than_the_screen(
    browser: Browser, house: Gateway, fake_worker: FakeWorker, key_admin: KeyAdmin
) -> None:
    key_admin.holder(house, ("a-name-as-long-as-names-get-" * 3)[:64])
    house.created()
    fake_worker.fail(fake_worker.claim("camera"), OutOfMemory("no room for this clip " * 12))
    with visit(browser, locale="en-GB", **PHONE) as guest:
        page = guest.page
        sign_in(page, house, ADMIN_KEY)
        page.get_by_role("link", name="Admin").click()
        expect(page.locator(".admin")).to_contain_text("no room for this clip")
        expect(page.locator(".admin")).to_contain_text("a-name-as-long")
        expect(page.locator(".scroll").nth(3)).to_be_attached()
        tables = "[...document.querySelectorAll('.scroll')]"
        assert page.evaluate(f"{tables}.filter(e => e.scrollWidth > e.clientWidth).length") == 0
        assert page.evaluate(WIDTH) == 390
        assert violations(page) == []
        # The column names are shown beside each value, and a screen reader still finds a table.
        expect(page.get_by_role("table").first.get_by_role("cell").first).to_contain_text("hand")
