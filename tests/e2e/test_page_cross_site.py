"""A page on another port tries every unsafe route; a SameSite cookie counts it as our page.

Browsers can send the visitor's cookie along in three ways: with a fetch that asks first, with a
fetch that does not ask, and with a form. None of them may reach anything.
"""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, Response

from api.app import create_app
from shared.settings import Settings
from tests.support.browser import visit
from tests.support.gateway import ADMIN_KEY, FakeWorker, Gateway, running_gateway
from tests.support.page import enter, sign_in
from tests.support.routes import described
from tests.support.stack import Stack
from tests.support.tenants import key_admin_of
from worker.engines.camera.engine import SPEC as CAMERA

pytestmark = [pytest.mark.long, pytest.mark.timeout(300)]

TRY = """async (targets) => {
  const frame = Object.assign(document.createElement("iframe"), { name: "into" });
  document.body.append(frame);
  const submit = async (action) => {
    const form = document.createElement("form");
    Object.assign(form, { action, method: "post", enctype: "text/plain", target: "into" });
    document.body.append(form);
    const arrived = new Promise((done) => frame.addEventListener("load", done, { once: true }));
    form.submit();
    await arrived;
    form.remove();
  };
  for (const { url, method } of targets) {
    const send = (mode, type, body) =>
      fetch(url, { method, mode, body, headers: { "Content-Type": type }, credentials: "include" })
        .catch(() => {});
    await send("cors", "application/json", "{}");
    if (method !== "POST") continue;
    await send("no-cors", "text/plain", "{}");
    await submit(url);
  }
}"""


class _Evil(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b"<!doctype html><title>evil</title><body></body>")

    def log_message(self, *args: Any) -> None:
        """Write no log, because nobody reads it."""


@pytest.fixture
def evil() -> Iterator[str]:
    """The address of a page on another port of the same host."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Evil)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/"
    server.shutdown()
    server.server_close()


def unsafe_routes(settings: Settings) -> list[tuple[str, str]]:
    """Return the method and the path of each route that may change something."""
    found = (each.split(" ") for each in described(create_app(settings)))
    return [(method, path) for method, path in found if method not in {"GET", "HEAD", "OPTIONS"}]


def filled(path: str, ids: dict[str, str]) -> str:
    for name, value in ids.items():
        path = path.replace(f"{{{name}}}", value)
    return path.replace("{", "").replace("}", "")


def attack(
    page: Page, house: Gateway, routes: list[tuple[str, str]], ids: dict[str, str]
) -> list[tuple[str, int]]:
    """Try every route and return the gateway's answers."""
    answered: list[tuple[str, int]] = []

    def hear(response: Response) -> None:
        method = response.request.method
        if response.url.startswith(house.url) and method != "OPTIONS":
            answered.append((f"{method} {response.url.removeprefix(house.url)}", response.status))

    page.on("response", hear)
    targets = [
        {"method": method, "url": f"{house.url}{filled(path, ids)}"} for method, path in routes
    ]
    page.evaluate(TRY, targets)
    return answered


@pytest.mark.extended
def test_a_page_of_another_port_gets_nothing_with_the_cookie(
    browser: Browser, module_stack: Stack, fake_worker: FakeWorker, evil: str
) -> None:
    fake_worker.clear()
    fake_worker.offer(CAMERA)
    settings = module_stack.settings(admin_key=ADMIN_KEY, rate_limit="none")
    with (
        running_gateway(settings) as house,
        key_admin_of(settings) as keys,
        visit(browser) as guest,
    ):
        key, _ = keys.holder(house, "victim")
        page = guest.page
        sign_in(page, house, ADMIN_KEY)
        job = house.created()
        ids = {"job_id": job["id"], "id": job["id"], "key_id": str(key.id)}
        before = [house.get(path).json() for path in ("/v1/jobs", "/v1/keys", "/v1/admin/pauses")]
        page.goto(evil)
        answered = attack(page, house, unsafe_routes(settings), ids)
        posts = {path for path, _ in answered if path.startswith("POST")}
        assert len(posts) > 10, "a form asks nobody, so each POST arrives"
        assert [each for each in answered if each[1] != 403] == []
        after = [house.get(path).json() for path in ("/v1/jobs", "/v1/keys", "/v1/admin/pauses")]
        assert after == before
        enter(page, house)
        page.locator(".make").wait_for()  # The visitor is still signed in.
