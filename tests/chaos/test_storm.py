"""A short seeded storm in every test run; `make soak` runs the long ones."""

import sys
from pathlib import Path

import pytest

from tests.chaos.faults import ALWAYS
from tests.chaos.storm import Storm, table
from tests.support.stack import Stack

pytestmark = pytest.mark.long

SEED = 7


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("jobs", "faults"), [(24, 2), pytest.param(300, 14, marks=pytest.mark.extended)]
)
def test_a_storm_loses_nothing_and_doubles_nothing(
    stack: Stack, tmp_path: Path, jobs: int, faults: int
) -> None:
    report = Storm(stack, tmp_path, SEED, jobs, faults).run()
    sys.stdout.write(table(report))
    assert report.findings.broken == {}
    assert report.jobs == jobs
    assert report.faults.total() == faults
    assert report.faults.keys() >= set(ALWAYS)
    assert report.dead_letters == 0
