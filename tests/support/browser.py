"""A real Chromium for the tests of pages; its console's complaints are kept."""

import contextlib
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from playwright.sync_api import (
    Browser,
    ConsoleMessage,
    Page,
    Request,
    expect,
    sync_playwright,
)

PATIENCE_MS = 30_000
# The default of five seconds is too short on a busy machine.
expect.set_options(timeout=PATIENCE_MS)


def chromium() -> str:
    """Return the path of Chromium, which .ci/run installs if the machine lacks it."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if found := shutil.which(name):
            return found
    pytest.skip("Chromium is not installed")


@dataclass
class Visit:
    """A visitor's page, the errors and warnings of its console, and its requests' targets."""

    page: Page
    complaints: list[str] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.set_default_timeout(PATIENCE_MS)
        self.page.on("console", self._hear)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request))

    def origins(self) -> set[str]:
        """Return the origins of requests, except for data that the page holds itself."""
        urls = (request.url for request in self.requests)
        return {"/".join(url.split("/")[:3]) for url in urls if url.startswith("http")}

    def _hear(self, said: ConsoleMessage) -> None:
        if said.type not in {"log", "debug", "info"}:
            self.complaints.append(said.text)


@contextlib.contextmanager
def launched(*, arguments: Sequence[str] = ()) -> Iterator[Browser]:
    """Yield a Chromium for several visits."""
    path = chromium()
    with sync_playwright() as playwright:
        # Its sandbox does not start for root, as in containers.
        browser = playwright.chromium.launch(
            executable_path=path, args=["--no-sandbox", *arguments]
        )
        try:
            yield browser
        finally:
            browser.close()


@contextlib.contextmanager
def visit(browser: Browser, **options: Any) -> Iterator[Visit]:
    """Yield a page of a new visitor: no cookies, no storage, nothing in the cache.

    The visitor asks for little motion if no option says otherwise: Chromium draws without a card
    here, and what moves costs as much as all the rest of a visit.
    """
    context = browser.new_context(**{"reduced_motion": "reduce", **options})
    try:
        yield Visit(context.new_page())
    finally:
        context.close()
