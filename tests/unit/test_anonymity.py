"""Who gets an answer without a key, header by header."""

from collections.abc import Mapping, Sequence
from functools import cache
from types import MappingProxyType
from typing import Any

import pytest
from starlette.types import Scope

from api.auth.anonymous import check_anonymous, is_loopback
from shared.errors import AppError
from shared.errors.access import HostRefused
from shared.settings import Settings

HERE = "127.0.0.1:7860"
PUBLIC = "https://video.example.org/stills"


def asked(
    method: str = "POST", *, hosts: Sequence[str] = (HERE,), peer: str = "127.0.0.1", **more: str
) -> Scope:
    """Return a request; underscores in the names of headers become dashes."""
    named = [("host", host) for host in hosts]
    named += [(name.replace("_", "-"), value) for name, value in more.items()]
    return {
        "type": "http",
        "scheme": "http",
        "method": method,
        "client": (peer, 50000),
        "headers": [(name.encode(), value.encode("latin-1")) for name, value in named],
    }


@cache
def settings_of(**values: Any) -> Settings:
    """Return settings with these values; they are cached, because reading them takes long."""
    return Settings(_env_file=None, **values)


def verdict(
    method: str = "POST", *, settings: Mapping[str, Any] = MappingProxyType({}), **request: Any
) -> str:
    """Return the code of the refusal, or `in`."""
    if "host" in request:
        request["hosts"] = [request.pop("host")]
    try:
        check_anonymous(asked(method, **request), settings_of(**settings))
    except AppError as error:
        return error.code
    return "in"


@pytest.mark.parametrize(
    "host",
    [
        *(HERE, "127.0.0.1", "localhost", "localhost:7860", "LOCALHOST.", "[::1]:7860"),
        *("10.0.0.5:7860", "192.168.1.20", "[fe80::1]:7860", "8.8.8.8"),
        *("gateway:7860", "gpu-box", "stillreel.localhost:7860", "a.b.localhost"),
    ],
)
def test_an_address_or_a_name_of_this_house_is_answered(host: str) -> None:
    assert verdict(host=host) == "in"


@pytest.mark.parametrize(
    "host",
    [
        *("rebind.example", "rebind.example:7860", "127.0.0.1.nip.io", "localhost.example"),
        *("a.b", "evil.com.", "studio.local:7860", "xlocalhost.com", "127.1", "1.2.3.4.5"),
        *("", "[", "a b", "x:y:z", '"><script>', "a/../b", "[::1", "::1", "user@localhost"),
        *("localhost:x", "localhost:7860,evil.example", "localhost\t", "locälhost"),
    ],
)
def test_a_name_that_anybody_may_point_here_is_refused(host: str) -> None:
    assert verdict(host=host) == "host_refused"
    assert verdict("GET", host=host) == "host_refused"


def test_the_name_of_the_public_url_is_ours() -> None:
    settings = {"public_url": PUBLIC}
    assert verdict(host="video.example.org", settings=settings) == "in"
    assert verdict(host="VIDEO.example.org:8443", settings=settings) == "in"
    assert verdict(host="example.org", settings=settings) == "host_refused"


def test_the_refusal_of_a_name_says_what_would_let_it_in() -> None:
    request = asked(hosts=["studio.lan:7860"])
    with pytest.raises(HostRefused, match=r"STILLREEL_PUBLIC_URL=http://studio\.lan:7860"):
        check_anonymous(request, Settings(_env_file=None))


@pytest.mark.parametrize("hosts", [[], ["localhost", "localhost"]])
def test_there_has_to_be_one_host(hosts: list[str]) -> None:
    assert verdict(hosts=hosts) == "host_refused"


@pytest.mark.parametrize(
    "header",
    [
        *("forwarded", "via", "x_real_ip", "x_forwarded_for", "x_forwarded_host"),
        *("x_forwarded_proto", "x_forwarded_anything", "cf_connecting_ip", "true_client_ip"),
    ],
)
@pytest.mark.parametrize("allow_anonymous", [False, True])
def test_nobody_is_anonymous_behind_a_proxy(header: str, allow_anonymous: bool) -> None:
    settings = {"allow_anonymous": allow_anonymous, "public_url": PUBLIC}
    said = verdict(settings=settings, **{header: "127.0.0.1"})
    assert said == "missing_api_key"


@pytest.mark.parametrize(
    ("peer", "near"),
    [
        *[(peer, True) for peer in ("127.0.0.1", "127.8.9.1", "::1", "::ffff:127.0.0.1")],
        *[(peer, False) for peer in ("10.0.0.5", "172.18.0.1", "::ffff:10.0.0.5", "fe80::1%eth0")],
        *[(peer, False) for peer in ("8.8.8.8", "", "testclient", "/run/gateway.sock")],
    ],
)
def test_others_than_this_machine_need_a_key_unless_everybody_is_let_in(
    peer: str, near: bool
) -> None:
    assert is_loopback(peer) == near
    assert verdict(peer=peer) == ("in" if near else "missing_api_key")
    assert verdict(peer=peer, settings={"allow_anonymous": True}) == "in"


@pytest.mark.parametrize(
    "origin",
    [
        *("null", "", "file://", "https://evil.example", "http://127.0.0.1.evil.example:7860"),
        *("http://127.0.0.1:3000", "http://127.0.0.1", "https://127.0.0.1:7860", HERE),
        *("http://localhost:7860", "http://127.0.0.1:7860x", "http://[", "chrome-extension://abc"),
    ],
)
def test_no_page_of_another_origin_is_answered(origin: str) -> None:
    for method in ("GET", "HEAD", "POST", "DELETE", "PATCH", "OPTIONS"):
        assert verdict(method, origin=origin) == "cross_site_refused", method
        said = verdict(method, origin=origin, sec_fetch_site="same-origin")
        assert said == "cross_site_refused", method


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
@pytest.mark.parametrize("site", ["same-origin", "none"])
def test_our_own_pages_are_answered(method: str, site: str) -> None:
    assert verdict(method, sec_fetch_site=site) == "in"
    assert verdict(method, origin=f"http://{HERE}", sec_fetch_site=site) == "in"
    assert verdict(method, origin="http://LOCALHOST", host="localhost:80") == "in"


def test_pages_of_the_public_url_and_of_named_origins_are_answered() -> None:
    settings = {"public_url": PUBLIC, "cors_origins": "http://localhost:3000"}
    assert verdict(origin="https://video.example.org", settings=settings) == "in"
    assert verdict(origin="https://video.example.org:443", settings=settings) == "in"
    assert verdict(origin="http://video.example.org", settings=settings) == "cross_site_refused"
    cross = {"origin": "http://localhost:3000", "sec_fetch_site": "cross-site"}
    assert verdict(settings=settings, **cross) == "in"


def test_naming_every_origin_does_not_let_every_page_be_anonymous() -> None:
    said = verdict(origin="https://evil.example", settings={"cors_origins": "*"})
    assert said == "cross_site_refused"


@pytest.mark.parametrize("site", ["cross-site", "same-site", "Cross-Site"])
@pytest.mark.parametrize(
    ("mode", "dest"),
    [("no-cors", "image"), ("cors", "empty"), ("navigate", "iframe"), ("no-cors", "script")],
)
def test_what_another_sites_page_loads_or_sends_is_refused(
    site: str, mode: str, dest: str
) -> None:
    for method in ("GET", "HEAD", "POST", "DELETE"):
        said = verdict(method, sec_fetch_site=site, sec_fetch_mode=mode, sec_fetch_dest=dest)
        assert said == "cross_site_refused", method


def test_a_link_that_somebody_follows_is_answered_and_a_form_is_not() -> None:
    link: dict[str, Any] = {
        "sec_fetch_site": "cross-site",
        "sec_fetch_mode": "navigate",
        "sec_fetch_dest": "document",
    }
    assert verdict("GET", **link) == "in"
    assert verdict("POST", **link) == "cross_site_refused"
