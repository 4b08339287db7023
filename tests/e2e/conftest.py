"""Fixtures of the tests through a browser or over a whole service."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser

from tests.support.browser import launched
from tests.support.gateway import fake_worker, gateway, one_fake_worker, one_gateway
from tests.support.page import clip, guest, studio

__all__ = [
    "clip",
    "fake_worker",
    "gateway",
    "guest",
    "one_fake_worker",
    "one_gateway",
    "studio",
]


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """One Chromium for all files that run in a row here; each visit has its own context.

    It ends after the last of them, because no test may run an event loop while it is there.
    """
    # This name is not the machine's own, so a browser trusts it as little as a name in a network.
    with launched(arguments=["--host-resolver-rules=MAP studio 127.0.0.1"]) as found:
        yield found
