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
    """One Chromium for all files that follow each other here; each visit has a context of its own.

    It ends with the last of them, because no test may run an event loop while it is there.
    """
    # A name that is not this machine's own: a browser trusts it as little as one in a network.
    with launched(arguments=["--host-resolver-rules=MAP studio 127.0.0.1"]) as found:
        yield found
