"""A short seeded storm of uploads for `make test-all`; `make soak-uploads` runs the long one."""

import sys

import pytest

from tests.chaos.bad_requests import requests
from tests.chaos.upload_storm import UploadStorm, table
from tests.support.stack import Stack

pytestmark = [pytest.mark.extended, pytest.mark.long]

SEED = 7
REQUESTS = 300
KINDS = 25


@pytest.mark.timeout(600)
def test_a_storm_of_uploads_breaks_nothing_and_leaves_nothing(
    stack: Stack, tmp_path_factory: pytest.TempPathFactory
) -> None:
    logs = tmp_path_factory.mktemp("logs")  # The stack's own folder must be empty at the end.
    report = UploadStorm(stack, logs, SEED, REQUESTS).run()
    sys.stdout.write(table(report))
    assert report.broken() == []
    assert report.answers.total() >= REQUESTS
    assert report.kinds >= KINDS


def test_the_same_seed_sends_the_same_requests() -> None:
    first, again, other = (list(requests(seed, 130)) for seed in (1, 1, 2))
    assert first == again != other
    assert len({request.kind for request in first}) > KINDS
