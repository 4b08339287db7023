"""Fixtures of the tests of pages."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser

from tests.support.browser import launched


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """One Chromium for all files that follow each other here; each visit has a context of its own.

    It ends with the last of them, because no test may run an event loop while it is there.
    """
    # A name that is not this machine's own: a browser trusts it as little as one in a network.
    with launched(arguments=["--host-resolver-rules=MAP studio 127.0.0.1"]) as found:
        yield found
