"""A real Chromium for the tests of pages; what it complains of is kept."""

import contextlib
import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, sync_playwright

PATIENCE_MS = 30_000


def chromium() -> str:
    """Return its path; .ci/run installs what a machine may lack."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if found := shutil.which(name):
            return found
    pytest.skip("Chromium is not installed")


@contextlib.contextmanager
def open_page() -> Iterator[tuple[Page, list[str]]]:
    """Yield a page, and what its console says of errors and warnings as they come."""
    path = chromium()
    with sync_playwright() as playwright:
        # Its sandbox does not start for root, as in containers.
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        page = browser.new_page()
        page.set_default_timeout(PATIENCE_MS)
        complaints: list[str] = []
        page.on(
            "console",
            lambda said: complaints.append(said.text) if said.type != "log" else None,
        )
        page.on("pageerror", lambda error: complaints.append(str(error)))
        try:
            yield page, complaints
        finally:
            browser.close()
