"""What a web page, a proxy and a plain program get while there is no key."""

from typing import Any

import pytest

from tests.support.gateway import FakeWorker, Gateway, beside, photo_png
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
    tenant_a: Gateway, path: str, headers: dict[str, str], status: int, code: str
) -> None:
    assert refusal(tenant_a.post(path, headers=headers, **FORM)) == (status, code)
    assert refusal(tenant_a.get("/v1/jobs", headers=headers)) == (status, code)
    assert tenant_a.get("/v1/jobs").json()["data"] == []


def test_the_pages_own_requests_and_the_plain_clients_are_answered(
    tenant_a: Gateway, fake_worker: FakeWorker
) -> None:
    own = {"Origin": tenant_a.url, "Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "cors"}
    assert tenant_a.post("/v1/jobs", headers=own, **FORM).status_code == 202
    fake_worker.complete(fake_worker.claim())
    legacy = beside(lambda: tenant_a.post("/generate", **FORM))
    fake_worker.complete(fake_worker.claim())
    assert legacy.result(timeout=PATIENCE).status_code == 200
