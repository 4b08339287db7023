"""A short seeded storm for `make test-all`; `make soak` runs the long ones."""

import sys
from pathlib import Path

import pytest

from tests.chaos.faults import ALWAYS
from tests.chaos.storm import Storm, table
from tests.support.stack import Stack

pytestmark = pytest.mark.long

SEED = 7
JOBS, FAULTS = 300, 14


@pytest.mark.extended
@pytest.mark.timeout(600)
def test_a_storm_loses_nothing_and_doubles_nothing(stack: Stack, tmp_path: Path) -> None:
    report = Storm(stack, tmp_path, SEED, JOBS, FAULTS).run()
    sys.stdout.write(table(report))
    assert report.findings.broken == {}
    assert report.jobs == JOBS
    assert report.faults.total() == FAULTS
    assert report.faults.keys() >= set(ALWAYS)
    assert report.dead_letters == 0
