"""Short seeded storms; `make soak` runs the long ones."""

import sys
from pathlib import Path

import pytest

from tests.chaos.faults import ALWAYS
from tests.chaos.storm import Report, Storm, table
from tests.support.stack import Stack

pytestmark = [pytest.mark.long, pytest.mark.timeout(600)]

SEED = 7
JOBS, FAULTS = 300, 14
FEW_JOBS, FEW_FAULTS = 30, 3


def test_a_few_jobs_and_faults_lose_nothing_and_double_nothing(
    stack: Stack, tmp_path: Path
) -> None:
    _check(Storm(stack, tmp_path, SEED, FEW_JOBS, FEW_FAULTS).run(), FEW_JOBS, FEW_FAULTS)


@pytest.mark.extended
def test_a_storm_loses_nothing_and_doubles_nothing(stack: Stack, tmp_path: Path) -> None:
    report = Storm(stack, tmp_path, SEED, JOBS, FAULTS).run()
    _check(report, JOBS, FAULTS)
    assert report.faults.keys() >= set(ALWAYS)


def _check(report: Report, jobs: int, faults: int) -> None:
    sys.stdout.write(table(report))
    assert report.findings.broken == {}
    assert report.jobs == jobs
    assert report.faults.total() == faults
    assert report.dead_letters == 0
