"""Sessions: a cookie replaces a key. What the cookie may do, and what ends it."""

import contextlib
from collections.abc import Iterator
from datetime import timedelta
from http.cookies import Morsel, SimpleCookie
from typing import Any

import pytest
import requests
from sqlalchemy import text

from api.limits import SHIPPED
from shared.api_keys.key import ApiKey, hashed
from shared.api_keys.sessions import LIVES, KeyProof, Sessions
from shared.installation_secret import InstallationSecret, Purpose
from tests.integration.auth.test_access import EXPECTED, Access
from tests.support.gateway import (
    ADMIN_KEY,
    FakeWorker,
    Gateway,
    photo_png,
    running_gateway,
)
from tests.support.stack import Stack
from tests.support.tenants import Holder, KeyAdmin, refusal

PATIENCE = 60
NAME = "stillreel_session"
SECURE = f"__Host-{NAME}"
EVIL = "https://evil.example"
FORM: dict[str, Any] = {"files": {"image": ("a.png", photo_png())}}


class Browser:
    """A client with a cookie and no key, whose every request comes from the gateway's own page."""

    def __init__(self, gateway: Gateway, cookie: str) -> None:
        self.gateway = gateway
        self.cookie = cookie

    def send(self, method: str, path: str, **options: Any) -> requests.Response:
        own = {"Cookie": self.cookie, "Origin": self.gateway.url, "Sec-Fetch-Site": "same-origin"}
        headers = own | options.pop("headers", {})
        return requests.request(
            method, f"{self.gateway.url}{path}", headers=headers, timeout=PATIENCE, **options
        )

    def get(self, path: str, **headers: str) -> requests.Response:
        return self.send("GET", path, headers=headers)

    def at(self, gateway: Gateway) -> "Browser":
        """Return the same browser before another gateway of the service."""
        return Browser(gateway, self.cookie)


def cookie_of(answer: requests.Response) -> Morsel[str]:
    (morsel,) = SimpleCookie(answer.headers["Set-Cookie"]).values()
    return morsel


def signed_in(holder: Holder, **headers: str) -> Browser:
    answer = holder.send("POST", "/v1/session", headers=headers)
    assert answer.status_code == 201, answer.text
    cookie = cookie_of(answer)
    return Browser(holder.gateway, f"{cookie.key}={cookie.value}")


@pytest.fixture
def tenant(tenant_a: Gateway, key_admin: KeyAdmin) -> tuple[ApiKey, Holder]:
    return key_admin.holder(tenant_a, "cms")


@pytest.fixture
def browser(tenant: tuple[ApiKey, Holder]) -> Browser:
    return signed_in(tenant[1])


def test_a_key_is_changed_for_a_cookie_that_no_script_and_no_other_site_gets(
    tenant: tuple[ApiKey, Holder],
) -> None:
    _, holder = tenant
    answer = holder.send("POST", "/v1/session")
    cookie = cookie_of(answer)
    assert cookie.key == NAME
    assert (cookie["httponly"], cookie["samesite"], cookie["path"]) == (True, "strict", "/")
    assert (cookie["secure"], cookie["domain"]) == ("", "")
    assert int(cookie["max-age"]) == LIVES.total_seconds()
    shown = answer.json()
    assert (shown["name"], shown["is_admin"], shown["how"]) == ("cms", False, "session")
    assert str(holder.text) not in f"{answer.headers}{answer.text}"
    assert cookie.value not in answer.text


def test_over_https_the_cookie_is_secure_and_bound_to_the_very_host(
    module_stack: Stack, tenant: tuple[ApiKey, Holder]
) -> None:
    settings = module_stack.settings(public_url="https://video.example.org")
    with running_gateway(settings) as gateway:
        holder = Holder(gateway, tenant[1].text)
        there = {"Host": "video.example.org", "Origin": "https://video.example.org"}
        answer = holder.send("POST", "/v1/session", headers=there)
        cookie = cookie_of(answer)
        assert (cookie.key, cookie["secure"], cookie["path"]) == (SECURE, True, "/")
        page = Browser(gateway, f"{SECURE}={cookie.value}")
        assert page.get("/v1/session", **there).json()["how"] == "session"
        # Another host of the domain may set a plain cookie. It has no effect here.
        tossed = Browser(gateway, f"{NAME}={cookie.value}")
        assert tossed.get("/v1/session", **there).status_code == 401
        # There is no https on this machine's own address, so a browser would drop a secure cookie.
        assert cookie_of(holder.send("POST", "/v1/session")).key == NAME


def test_a_session_is_who_its_key_is(
    tenant_a: Gateway, key_admin: KeyAdmin, tenant: tuple[ApiKey, Holder], browser: Browser
) -> None:
    key, holder = tenant
    job = holder.created()
    assert browser.get(f"/v1/jobs/{job}").status_code == 200
    assert browser.send("POST", "/v1/jobs", **FORM).status_code == 202
    assert [each["id"] for each in holder.get("/v1/jobs").json()["data"]][-1] == job
    _, other = key_admin.holder(tenant_a, "other")
    assert refusal(signed_in(other).get(f"/v1/jobs/{job}")) == (404, "not_found")
    assert refusal(browser.get("/v1/keys")) == (403, "admin_only")
    _, admin = key_admin.holder(tenant_a, "boss", is_admin=True)
    house = signed_in(admin)
    assert house.get("/v1/session").json()["is_admin"] is True
    assert house.send("POST", "/v1/keys", json={"name": "made-by-page"}).status_code == 201
    assert key_admin.keys.all()[0].last_used_at is not None
    assert key.name == "cms"


def test_whoever_asks_is_told_who_they_are_and_no_secret(
    tenant_a: Gateway, tenant: tuple[ApiKey, Holder], browser: Browser
) -> None:
    _, holder = tenant
    by_key = holder.get("/v1/session").json()
    assert (by_key["name"], by_key["how"], by_key["expires_at"]) == ("cms", "key", None)
    by_cookie = browser.get("/v1/session")
    assert (by_cookie.json()["name"], by_cookie.json()["how"]) == ("cms", "session")
    assert by_cookie.json()["expires_at"] is not None
    assert browser.cookie.partition("=")[2] not in by_cookie.text
    assert refusal(Holder(tenant_a, None).get("/v1/session")) == (401, "missing_api_key")


def test_without_keys_one_is_anonymous_and_begins_no_session(tenant_a: Gateway) -> None:
    nobody = Holder(tenant_a, None)
    shown = nobody.get("/v1/session").json()
    assert (shown["name"], shown["how"], shown["is_admin"]) == ("anonymous", "anonymous", False)
    for who in (nobody, Holder(tenant_a, "none")):
        assert refusal(who.send("POST", "/v1/session")) == (401, "missing_api_key")
    # An old cookie does no harm if nobody needs a cookie.
    stale = Browser(tenant_a, f"{NAME}={'x' * 64}")
    assert stale.get("/v1/session").json()["how"] == "anonymous"


def test_a_page_may_send_a_body_although_none_is_read(tenant: tuple[ApiKey, Holder]) -> None:
    assert tenant[1].send("POST", "/v1/session", json={}).status_code == 201


def test_a_session_begins_no_other(browser: Browser) -> None:
    assert refusal(browser.send("POST", "/v1/session")) == (401, "missing_api_key")


def test_signing_out_ends_the_session_on_every_gateway(
    browser: Browser, tenant_b: Gateway
) -> None:
    elsewhere = browser.at(tenant_b)
    assert elsewhere.get("/v1/session").status_code == 200
    out = browser.send("DELETE", "/v1/session")
    assert (out.status_code, out.content) == (204, b"")
    cleared = cookie_of(out)
    assert (cleared.key, cleared.value, cleared["max-age"]) == (NAME, "", "0")
    assert refusal(browser.get("/v1/jobs")) == (401, "session_ended")
    # Without this call the gateway would notice a second later.
    tenant_b.ports.session_cache.forget(browser.cookie.partition("=")[2])
    assert refusal(elsewhere.get("/v1/jobs")) == (401, "session_ended")


def test_signing_in_again_ends_the_session_before(
    tenant: tuple[ApiKey, Holder], browser: Browser
) -> None:
    again = signed_in(tenant[1], Cookie=browser.cookie)
    assert again.get("/v1/session").status_code == 200
    assert refusal(browser.get("/v1/session")) == (401, "session_ended")


def test_a_session_ends_with_the_key_it_was_made_from(
    tenant_a: Gateway, key_admin: KeyAdmin, tenant: tuple[ApiKey, Holder], browser: Browser
) -> None:
    key, _ = tenant
    rotated = signed_in(key_admin.rotate(tenant_a, key))
    assert refusal(browser.get("/v1/jobs")) == (401, "session_ended")
    assert rotated.get("/v1/jobs").status_code == 200
    key_admin.revoke(tenant_a, key)
    assert refusal(rotated.get("/v1/jobs")) == (401, "session_ended")


def test_with_an_overlap_it_works_as_long_as_the_old_text_does(
    tenant_a: Gateway, key_admin: KeyAdmin, tenant: tuple[ApiKey, Holder], browser: Browser
) -> None:
    key, old = tenant
    key_admin.rotate(tenant_a, key, overlap=timedelta(hours=1))
    late = signed_in(old)
    assert browser.get("/v1/jobs").status_code == late.get("/v1/jobs").status_code == 200
    _run(key_admin, "UPDATE api_keys SET previous_works_until = clock_timestamp()")
    tenant_a.ports.key_cache.forget()
    for each in (browser, late):
        assert refusal(each.get("/v1/jobs")) == (401, "session_ended")


def test_a_session_ends_by_its_time_and_its_row_is_dropped(
    module_stack: Stack, tenant_a: Gateway, key_admin: KeyAdmin, browser: Browser
) -> None:
    _run(key_admin, "UPDATE sessions SET expires_at = clock_timestamp()")
    tenant_a.ports.session_cache.forget(browser.cookie.partition("=")[2])
    assert refusal(browser.get("/v1/jobs")) == (401, "session_ended")
    tenant_a.ports.sessions.forget_ended()
    assert _run(key_admin, "SELECT count(*) FROM sessions") == 0


def test_what_we_have_not_drawn_opens_nothing(tenant_a: Gateway, browser: Browser) -> None:
    token = browser.cookie.partition("=")[2]
    for cookie in (
        f"{NAME}={token[:-1]}A",
        f"{NAME}={token[:-4]}",
        f"{NAME}={token}=",
        f"{NAME}={token}; {NAME}={token}",
        f"{NAME}={token}; {NAME}=x",
        f"{NAME}=",
        f"{NAME}={'A' * 64}",
        f"{NAME}={'ä' * 64}".encode().decode("latin-1"),
        f"{NAME}={'A' * 5000}",
        f"other={token}",
    ):
        assert Browser(tenant_a, cookie).get("/v1/jobs").status_code == 401, cookie[:90]
    assert Browser(tenant_a, f"theme=dark; {NAME}={token}").get("/v1/jobs").status_code == 200


def test_a_guess_is_known_from_its_letters_alone(tenant_a: Gateway, browser: Browser) -> None:
    token, sessions = browser.cookie.partition("=")[2], tenant_a.ports.sessions
    assert sessions.is_ours(token)
    for guess in ("A" * 64, token[:-1] + ("A" if token[-1] != "A" else "B"), token[:-4], "", "ä"):
        assert not sessions.is_ours(guess)


def test_neither_a_token_nor_what_a_key_hashes_to_is_in_the_table(
    key_admin: KeyAdmin, tenant: tuple[ApiKey, Holder], browser: Browser
) -> None:
    kept = str(_run(key_admin, "SELECT json_agg(sessions)::text FROM sessions"))
    token = browser.cookie.partition("=")[2]
    assert hashed(token) in kept
    for secret in (token, str(tenant[1].text), hashed(str(tenant[1].text))):
        assert secret not in kept


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"Origin": EVIL, "Sec-Fetch-Site": "cross-site"}, "cross_site_refused"),
        ({"Origin": "null", "Sec-Fetch-Site": "cross-site"}, "cross_site_refused"),
        ({"Origin": "http://127.0.0.1:9", "Sec-Fetch-Site": "same-site"}, "cross_site_refused"),
        ({"Host": "rebind.example:7860"}, "host_refused"),
    ],
    ids=["another site", "a sandbox", "another port", "a rebound name"],
)
def test_a_page_of_another_site_changes_nothing_with_the_cookie(
    browser: Browser, headers: dict[str, str], code: str
) -> None:
    unsafe = [
        each.split(" ")
        for each, row in EXPECTED.items()
        if row.access is not Access.PUBLIC and not each.startswith(("GET", "HEAD"))
    ]
    assert len(unsafe) > 15
    for method, path in unsafe:
        answer = browser.send(method, path, headers=headers)
        assert refusal(answer) == (403, code), path
        assert "Access-Control-Allow-Credentials" not in answer.headers
    assert refusal(browser.get("/v1/jobs", **headers)) == (403, code)
    assert browser.get("/v1/jobs").json()["data"] == []
    assert browser.get("/v1/session").json()["how"] == "session"


def test_no_page_is_ever_allowed_to_send_the_cookie_along(
    module_stack: Stack, tenant: tuple[ApiKey, Holder]
) -> None:
    studio = "http://127.0.0.1:3000"
    with running_gateway(module_stack.settings(cors_origins=studio)) as gateway:
        browser = signed_in(Holder(gateway, tenant[1].text))
        theirs = {"Origin": studio, "Sec-Fetch-Site": "same-site"}
        asked = {"Access-Control-Request-Method": "POST"}
        for answer in (
            browser.get("/v1/jobs", **theirs),
            browser.send("OPTIONS", "/v1/jobs", headers={**theirs, **asked}),
        ):
            assert answer.headers["Access-Control-Allow-Origin"] == studio
            assert "Access-Control-Allow-Credentials" not in answer.headers


def test_a_session_does_not_begin_where_its_requests_would_be_refused(
    tenant: tuple[ApiKey, Holder],
) -> None:
    there = {"Host": "video.example.org"}
    answer = tenant[1].send("POST", "/v1/session", headers=there)
    assert refusal(answer) == (403, "host_refused")
    assert "STILLREEL_PUBLIC_URL" in answer.json()["detail"]
    assert "Set-Cookie" not in answer.headers


@contextlib.contextmanager
def with_admin(stack: Stack, **settings: Any) -> Iterator[Gateway]:
    with running_gateway(stack.settings(**settings)) as gateway:
        gateway.http.headers.pop("Authorization", None)
        yield gateway


def test_the_settings_admin_signs_in_too_until_that_key_is_another(
    module_stack: Stack, key_admin: KeyAdmin, fake_worker: FakeWorker
) -> None:
    with with_admin(module_stack, admin_key=ADMIN_KEY) as gateway:
        browser = signed_in(Holder(gateway, ADMIN_KEY))
        shown = browser.get("/v1/session").json()
        assert (shown["name"], shown["is_admin"], shown["how"]) == ("admin", True, "session")
    with with_admin(module_stack, admin_key=f"{ADMIN_KEY}-2") as gateway:
        assert refusal(browser.at(gateway).get("/v1/session")) == (401, "session_ended")


def test_a_new_secret_keeps_the_sessions_of_the_old_one_while_that_is_named(
    module_stack: Stack, tenant: tuple[ApiKey, Holder], browser: Browser
) -> None:
    (old,) = module_stack.settings().secrets
    new = "n" * 40
    with running_gateway(module_stack.settings(secret=f"{new},{old}")) as gateway:
        assert browser.at(gateway).get("/v1/session").status_code == 200
    with running_gateway(module_stack.settings(secret=new)) as gateway:
        assert browser.at(gateway).get("/v1/session").status_code == 401


def test_a_key_has_a_bounded_number_of_sessions_the_newest(
    module_stack: Stack, key_admin: KeyAdmin
) -> None:
    keys = InstallationSecret.of(module_stack.settings()).keys(Purpose.SESSIONS)
    sessions = Sessions(key_admin.db, keys, most_of_a_key=3)
    key, _ = key_admin.keys.create("many")
    other, _ = key_admin.keys.create("few")
    apart, _ = sessions.begin(KeyProof(key_id=other.id, digest="d"))
    made = [sessions.begin(KeyProof(key_id=key.id, digest="d"))[0] for _ in range(5)]
    assert [sessions.find(token) is not None for token in made] == [False] * 2 + [True] * 3
    assert sessions.find(apart) is not None


def test_a_frozen_postgres_lets_no_session_in_and_holds_none_up(
    stack: Stack, fake_worker: FakeWorker
) -> None:
    with running_gateway(stack.settings(admin_key=ADMIN_KEY), SHIPPED) as gateway:
        browser = signed_in(Holder(gateway, ADMIN_KEY))
        gateway.ports.session_cache.forget(browser.cookie.partition("=")[2])
        stack.postgres.freeze()
        answer = browser.get("/v1/session")
        assert refusal(answer) == (503, "database_unavailable")
        assert answer.elapsed < timedelta(seconds=10)


def _run(key_admin: KeyAdmin, statement: str) -> Any:
    with key_admin.db.begin() as connection:
        done = connection.execute(text(statement))
        return done.scalar() if done.returns_rows else done.rowcount
