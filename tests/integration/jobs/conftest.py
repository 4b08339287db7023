"""Fixtures for tests of jobs: one JobFixture for all tests of a file, on empty tables."""

from collections.abc import Iterator

import pytest

from tests.support.factory import JobFixture, NullAnnouncer
from tests.support.stack import Stack


@pytest.fixture(scope="module")
def one_desk(module_stack: Stack) -> Iterator[JobFixture]:
    desk = JobFixture(module_stack.settings())
    yield desk
    desk.close()


@pytest.fixture
def job_fixture(one_desk: JobFixture) -> JobFixture:
    assert isinstance(one_desk.announcer, NullAnnouncer)
    one_desk.announcer.said.clear()
    one_desk.run("TRUNCATE jobs, batches, usage_days, webhook_endpoints, deliveries CASCADE")
    return one_desk
