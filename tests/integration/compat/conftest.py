"""Gateways for other protocols' clients: one that needs keys, and one that has none."""

from collections.abc import Iterator

import pytest

from tests.support.gateway import ADMIN_KEY, FakeWorker, Gateway, running_gateway
from tests.support.outbox import LOOPBACK
from tests.support.stack import Stack


@pytest.fixture(scope="module")
def one_keyed_gateway(module_stack: Stack) -> Iterator[Gateway]:
    settings = module_stack.settings(
        admin_key=ADMIN_KEY, rate_limit="none", outbound_allow=str(LOOPBACK[0])
    )
    with running_gateway(settings) as gateway:
        yield gateway


@pytest.fixture
def keyed_gateway(one_keyed_gateway: Gateway, fake_worker: FakeWorker) -> Gateway:
    """A gateway that refuses every request without the admin's key."""
    return one_keyed_gateway
