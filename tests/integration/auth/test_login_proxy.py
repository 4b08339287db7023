"""A login proxy names the user; gateways believe it only from the proxy's own address."""

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from requests.adapters import HTTPAdapter
from sqlalchemy import delete

from shared.owners import ANONYMOUS, Owners
from shared.settings import Settings
from shared.tables.access import owners
from tests.support.gateway import FakeWorker, Gateway, beside, photo_png, running_gateway
from tests.support.stack import Stack
from tests.support.tenants import Holder, KeyAdmin, refusal

PATIENCE = 60
HEADER = "Remote-User"
PROXY, NEIGHBOUR = "127.0.0.2", "127.0.0.3"
BEHIND = {"X-Forwarded-For": "203.0.113.9", "X-Forwarded-Proto": "http", "Via": "1.1 login"}
FORM: dict[str, Any] = {"files": {"image": ("a.png", photo_png())}}


class From(HTTPAdapter):
    """Connects from one of this machine's addresses."""

    def __init__(self, address: str) -> None:
        self._address = address
        super().__init__()

    def init_poolmanager(self, *args: Any, **options: Any) -> None:
        super().init_poolmanager(*args, source_address=(self._address, 0), **options)


class Client:
    """A client at an address, with the headers that a test chooses."""

    def __init__(self, gateway: Gateway, address: str) -> None:
        self._gateway = gateway
        self._http = requests.Session()
        self._http.mount("http://", From(address))

    def send(
        self, method: str, path: str, login: str | bytes | None = None, **options: Any
    ) -> Any:
        headers = dict(options.pop("headers", {}))
        if login is not None:
            headers[HEADER] = login
        url = f"{self._gateway.url}{path}"
        return self._http.request(method, url, headers=headers, timeout=PATIENCE, **options)

    def get(self, path: str, login: str | bytes | None = None, **headers: str) -> Any:
        return self.send("GET", path, login, headers=headers)


@pytest.fixture(scope="module")
def house(module_stack: Stack) -> Iterator[Gateway]:
    settings = module_stack.settings(
        trusted_header=HEADER,
        trusted_proxy=f"{PROXY}/32, fd00::/8",
        trusted_admins="boss, Chief@example.org",
    )
    with running_gateway(settings) as gateway:
        yield gateway


@pytest.fixture
def gateway(house: Gateway, key_admin: KeyAdmin) -> Gateway:
    """A gateway behind a login proxy, without keys, jobs and logins."""
    with key_admin.db.begin() as connection:
        connection.execute(delete(owners))
    house.ports.key_cache.forget()
    return house


@pytest.fixture
def proxy(gateway: Gateway) -> Client:
    return Client(gateway, PROXY)


def test_each_login_has_jobs_of_its_own(proxy: Client, fake_worker: FakeWorker) -> None:
    made = proxy.send("POST", "/v1/jobs", "alice", headers=BEHIND, **FORM)
    assert made.status_code == 202
    job = made.json()["id"]
    assert proxy.get(f"/v1/jobs/{job}", "alice").status_code == 200
    assert refusal(proxy.get(f"/v1/jobs/{job}", "bob")) == (404, "not_found")
    assert proxy.get("/v1/jobs", "bob").json()["data"] == []
    # A space after the name does not make another user.
    assert proxy.get(f"/v1/jobs/{job}", "alice ").status_code == 200
    shown = proxy.get("/v1/session", "alice").json()
    assert (shown["name"], shown["how"], shown["is_admin"]) == ("alice", "header", False)


def test_a_login_keeps_its_owner_for_good_and_is_made_once(
    gateway: Gateway, key_admin: KeyAdmin
) -> None:
    found = [beside(lambda: Owners(key_admin.db).of_login("carol")) for _ in range(8)]
    ids = {each.result(timeout=PATIENCE) for each in found}
    assert len(ids) == 1
    assert Owners(key_admin.db).of_login("carol") in ids
    assert Owners(key_admin.db).of_login("Carol") not in ids | {ANONYMOUS}


@pytest.mark.parametrize("address", ["127.0.0.1", NEIGHBOUR])
def test_nobody_but_the_proxy_names_a_login(gateway: Gateway, address: str) -> None:
    forger = Client(gateway, address)
    for login in ("alice", "boss", ""):
        for method in ("GET", "POST", "DELETE"):
            refused = forger.send(method, "/v1/jobs", login)
            assert refusal(refused) == (403, "login_header_refused")
        for more in (
            {"X-Forwarded-For": PROXY},
            {"X-Real-IP": PROXY},
            {"Forwarded": f"for={PROXY}"},
        ):
            assert forger.get("/v1/jobs", login, **more).status_code == 403
    assert forger.get("/v1/session").json()["how"] == "anonymous"


def test_the_header_is_off_until_the_settings_name_it(
    tenant_a: Gateway, key_admin: KeyAdmin
) -> None:
    client = Client(tenant_a, PROXY)
    assert client.get("/v1/session", "alice").json()["how"] == "anonymous"
    key_admin.holder(tenant_a, "first")
    assert refusal(client.get("/v1/session", "alice")) == (401, "missing_api_key")


def test_only_logins_that_the_settings_name_are_admins(proxy: Client) -> None:
    for login, is_admin in (
        ("boss", True),
        ("Chief@example.org", True),
        ("Boss", False),
        ("chief@example.org", False),
        ("boss,", False),
        ("boss, boss", False),
        ("admin", False),
        ("anonymous", False),
    ):
        assert proxy.get("/v1/session", login).json()["is_admin"] is is_admin, login
        assert proxy.get("/v1/keys", login).status_code == (200 if is_admin else 403), login


def test_what_names_no_login_is_refused(gateway: Gateway, proxy: Client) -> None:
    for login in ("", "x" * 201, "a\tb", "caf\xe9\x85"):
        answer = proxy.get("/v1/jobs", login.encode("latin-1"))
        assert refusal(answer) == (403, "login_header_refused"), login
    with socket.create_connection(("127.0.0.1", gateway.port), source_address=(PROXY, 0)) as line:
        line.sendall(
            b"GET /v1/jobs HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n"
            b"Remote-User: alice\r\nremote-user: boss\r\n\r\n"
        )
        assert b" 403 " in line.makefile("rb").readline()


def test_behind_the_proxy_nobody_is_anonymous(proxy: Client) -> None:
    assert refusal(proxy.get("/v1/jobs")) == (401, "missing_api_key")
    placeholder = {"Authorization": "Bearer none"}
    assert refusal(proxy.get("/v1/jobs", **placeholder)) == (401, "invalid_api_key")


def test_a_key_counts_as_anywhere_whoever_is_logged_in(
    gateway: Gateway, key_admin: KeyAdmin, proxy: Client
) -> None:
    _, holder = key_admin.holder(gateway, "cms")
    job = holder.created()
    key = {"Authorization": f"Bearer {holder.text}"}
    assert proxy.get(f"/v1/jobs/{job}", "alice", **key).status_code == 200
    assert proxy.get(f"/v1/jobs/{job}", "alice").status_code == 404
    assert refusal(proxy.get("/v1/jobs", "alice", Authorization="Bearer wrong"))[0] == 401
    # From another address the gateway ignores the header, because there the key decides.
    assert Client(gateway, NEIGHBOUR).get("/v1/session", "boss", **key).json()["how"] == "key"


def test_the_proxys_word_comes_before_a_session_of_somebody_before(
    gateway: Gateway, key_admin: KeyAdmin, proxy: Client
) -> None:
    _, holder = key_admin.holder(gateway, "cms", is_admin=True)
    cookie = holder.send("POST", "/v1/session").headers["Set-Cookie"].partition(";")[0]
    shown = proxy.get("/v1/session", "alice", Cookie=cookie).json()
    assert (shown["name"], shown["how"], shown["is_admin"]) == ("alice", "header", False)
    forged = Client(gateway, NEIGHBOUR).get("/v1/session", "alice", Cookie=cookie)
    assert refusal(forged) == (403, "login_header_refused")
    assert proxy.get("/v1/session", Cookie=cookie).json()["how"] == "session"
    assert refusal(proxy.send("POST", "/v1/session", "alice")) == (401, "missing_api_key")


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"Origin": "https://evil.example"}, "cross_site_refused"),
        ({"Sec-Fetch-Site": "cross-site"}, "cross_site_refused"),
        ({"Sec-Fetch-Site": "same-site"}, "cross_site_refused"),
        ({"Host": "rebind.example"}, "host_refused"),
    ],
)
@pytest.mark.parametrize("login", ["alice", "boss"])
def test_a_page_of_another_site_does_nothing_in_a_logins_name(
    proxy: Client, login: str, headers: dict[str, str], code: str
) -> None:
    for method, path in (("POST", "/v1/jobs"), ("POST", "/v1/keys"), ("DELETE", "/v1/session")):
        answer = proxy.send(method, path, login, headers={**BEHIND, **headers})
        assert refusal(answer) == (403, code)
    assert refusal(proxy.get("/v1/jobs", login, **headers)) == (403, code)
    assert proxy.get("/v1/jobs", login).json()["data"] == []


def test_an_admins_login_is_of_the_house(
    proxy: Client, gateway: Gateway, key_admin: KeyAdmin, fake_worker: FakeWorker
) -> None:
    job = proxy.send("POST", "/v1/jobs", "boss", **FORM).json()["id"]
    _, admin = key_admin.holder(gateway, "admin", is_admin=True)
    assert admin.get(f"/v1/jobs/{job}").status_code == 200
    assert Holder(gateway, None).get(f"/v1/jobs/{job}").status_code == 401


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"trusted_header": HEADER}, "only from STILLREEL_TRUSTED_PROXY"),
        ({"trusted_header": "Remote User", "trusted_proxy": "10.0.0.1/32"}, "like Remote-User"),
        ({"trusted_header": "Authorization", "trusted_proxy": "10.0.0.1/32"}, "like Remote-User"),
        ({"trusted_header": "cookie", "trusted_proxy": "10.0.0.1/32"}, "like Remote-User"),
        ({"trusted_proxy": "10.0.0.1/8"}, "the nearest is 10.0.0.0/8"),
        ({"trusted_proxy": "login"}, "'login' is no network"),
    ],
)
def test_settings_that_would_believe_anybody_are_refused(given: dict[str, str], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Settings(_env_file=None, **given)  # type: ignore[arg-type]  # pydantic parses strings


def test_a_line_that_ends_at_its_sign_trusts_nobody(tmp_path: Path) -> None:
    lines = tmp_path / ".env"
    lines.write_text("STILLREEL_TRUSTED_HEADER=\nSTILLREEL_TRUSTED_PROXY=\n")
    settings = Settings(_env_file=lines)
    assert (settings.trusted_header, settings.trusted_networks) == (None, ())
