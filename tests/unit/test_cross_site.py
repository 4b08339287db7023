"""Requests without a key that are refused for what the browser says; unknown words are refused."""

import pytest
from starlette.types import Scope

from api.auth.cross_site import check_cross_site
from shared.errors import AppError
from shared.settings import Settings

HERE = "127.0.0.1:7860"
OURS = f"http://{HERE}"
LINK = (("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "document"))
SETTINGS = Settings(
    _env_file=None,
    public_url="https://video.example.org/stills",
    cors_origins="http://localhost:3000",
)


def verdict(*headers: tuple[str, str], method: str = "POST", host: str = HERE) -> str:
    """Return the code of the refusal, or `in`; a header may come twice."""
    scope: Scope = {
        "type": "http",
        "scheme": "http",
        "method": method,
        "headers": [(n.encode(), v.encode("latin-1")) for n, v in (("host", host), *headers)],
    }
    try:
        check_cross_site(scope, SETTINGS)
    except AppError as error:
        return error.code
    return "in"


@pytest.mark.parametrize(
    "site",
    [
        *("", " ", "Same-Origin", "SAME-ORIGIN", "same-origin ", "same_origin", "sameorigin"),
        *("None", "none,none", "same-origin, cross-site", "cross-site, same-origin", "null"),
        *('"same-origin"', "same-origin;a=1", "unknown", "same-origin\t", "cross-origin", "*"),
        *("same-origin\x00", "n\xf6ne", "x" * 5000),
    ],
)
def test_a_site_that_no_browser_names_is_refused(site: str) -> None:
    named = ("sec-fetch-site", site)
    for method in ("GET", "HEAD", "POST", "DELETE"):
        assert verdict(named, *LINK, method=method) == "cross_site_refused", method
        for origin in (OURS, "http://localhost:3000"):
            said = verdict(named, ("origin", origin), method=method)
            assert said == "cross_site_refused", (method, origin)


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("first", ["same-origin", "none", "cross-site"])
def test_a_site_that_is_named_twice_is_refused(method: str, first: str) -> None:
    for second in ("same-origin", "none", "cross-site"):
        twice = (("sec-fetch-site", first), ("sec-fetch-site", second), *LINK)
        assert verdict(*twice, method=method) == "cross_site_refused", second


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("second", [OURS, "https://evil.example", "null", ""])
def test_an_origin_that_is_named_twice_is_refused(method: str, second: str) -> None:
    for pair in ((OURS, second), (second, OURS)):
        assert verdict(*(("origin", each) for each in pair), method=method) == "cross_site_refused"


@pytest.mark.parametrize(
    "origin",
    [
        *(f"{OURS}/", f"{OURS}/a", f"{OURS}?a", f"{OURS}#a", f" {OURS}", f"{OURS} ", f"{OURS}\t"),
        *(f"{OURS}, {OURS}", f"{OURS} https://evil.example", f"{OURS},https://evil.example"),
        *("http://user@127.0.0.1:7860", "http://evil.example@127.0.0.1:7860", f"//{HERE}"),
        *("http:127.0.0.1:7860", "http:///127.0.0.1:7860", "http:\\\\127.0.0.1:7860"),
        *("http://127.0.0.1:07860", "http://127.0.0.1:7860.", "http://127.0.0.1\n:7860", "NULL"),
        *("http://127.0.0.1:73396", "ws://127.0.0.1:7860", "http://127.1:7860", "about:blank"),
        *("blob:http://127.0.0.1:7860/x", f"{OURS}\x00", "http://[127.0.0.1]:7860"),
    ],
)
def test_an_origin_that_is_not_exactly_one_of_ours_is_refused(origin: str) -> None:
    for method in ("GET", "POST"):
        assert verdict(("origin", origin), method=method) == "cross_site_refused", method
        said = verdict(("origin", origin), ("sec-fetch-site", "same-origin"), method=method)
        assert said == "cross_site_refused", method


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_a_page_that_claims_to_be_ours_and_is_foreign_is_refused(site: str) -> None:
    foreign = ("sec-fetch-site", site)
    assert verdict(("origin", OURS), foreign) == "cross_site_refused"
    assert verdict(("origin", "https://video.example.org"), foreign) == "cross_site_refused"
    assert verdict(("origin", "http://localhost:3000"), foreign) == "in"


@pytest.mark.parametrize("doubled", LINK)
@pytest.mark.parametrize("other", ["navigate", "document", "iframe", ""])
def test_a_link_that_says_one_thing_twice_is_none(doubled: tuple[str, str], other: str) -> None:
    link = (("sec-fetch-site", "cross-site"), *LINK)
    assert verdict(*link, method="GET") == "in"
    assert verdict(*link, (doubled[0], other), method="GET") == "cross_site_refused"


def test_clients_that_are_no_browsers_are_answered() -> None:
    assert verdict() == "in"
    assert verdict(("sec-fetch-mode", "cors")) == "in"  # Node's `fetch` sends only this header.


@pytest.mark.parametrize("port", ["0", "00", "07860", "65536", "99999", "786O", "-1", ""])
def test_a_host_with_a_port_that_is_none_is_refused(port: str) -> None:
    assert verdict(host=f"localhost:{port}") == "host_refused"
    assert verdict(host=f"video.example.org:{port}") == "host_refused"


def test_the_refusal_says_what_was_odd() -> None:
    assert verdict(("origin", OURS)) == "in"
    with pytest.raises(AppError, match=r"'Same-Origin' is none that a browser sends \(cross-site"):
        check_cross_site(_asked(b"Same-Origin"), SETTINGS)


def _asked(site: bytes) -> Scope:
    headers = [(b"host", HERE.encode()), (b"sec-fetch-site", site)]
    return {"type": "http", "scheme": "http", "method": "GET", "headers": headers}
