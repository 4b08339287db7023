"""What a web page, a proxy and a plain program get while there is no key."""

from typing import Any

import pytest

from tests.support.gateway import Gateway, Hand, beside, photo_png
from tests.support.tenants import refusal

PATIENCE = 60

FORM: dict[str, Any] = {"files": {"image": ("a.png", photo_png())}}


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ({"Origin": "https://evil.example"}, 403, "cross_site_refused"),
        ({"Origin": "null"}, 403, "cross_site_refused"),
        ({"Sec-Fetch-Site": "cross-site"}, 403, "cross_site_refused"),
        ({"Sec-Fetch-Site": "same-site"}, 403, "cross_site_refused"),
        ({"Host": "rebind.example:7860"}, 403, "host_refused"),
        ({"X-Forwarded-For": "127.0.0.1"}, 401, "missing_api_key"),
        ({"Via": "1.1 proxy"}, 401, "missing_api_key"),
    ],
)
@pytest.mark.parametrize("path", ["/generate", "/v1/jobs"])
def test_a_web_page_cannot_use_the_anonymity_of_the_machine_it_is_shown_on(
    here: Gateway, path: str, headers: dict[str, str], status: int, code: str
) -> None:
    assert refusal(here.post(path, headers=headers, **FORM)) == (status, code)
    assert refusal(here.get("/v1/jobs", headers=headers)) == (status, code)
    assert here.get("/v1/jobs").json()["data"] == []


def test_the_pages_own_requests_and_the_plain_clients_are_answered(
    here: Gateway, hand: Hand
) -> None:
    own = {"Origin": here.url, "Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "cors"}
    assert here.post("/v1/jobs", headers=own, **FORM).status_code == 202
    hand.complete(hand.claim())
    legacy = beside(lambda: here.post("/generate", **FORM))
    hand.complete(hand.claim())
    assert legacy.result(timeout=PATIENCE).status_code == 200
