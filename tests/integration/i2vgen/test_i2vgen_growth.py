"""A worker that has rendered a hundred clips uses no more memory than at its start.

GROWTH_RENDERS=2000 makes the test as long as in `make soak`.
"""

import os
import subprocess
import sys

import pytest

from tests.support.stack import ROOT

BOUND = 100_000  # bytes for each render
RENDERS = int(os.environ.get("GROWTH_RENDERS", "100"))
# A render takes a quarter of a second if nothing else runs.
SECONDS = 110 + 3 * RENDERS

pytestmark = [pytest.mark.extended, pytest.mark.long, pytest.mark.timeout(SECONDS + 10)]


@pytest.fixture(scope="module")
def growth() -> tuple[float, float]:
    """Return the bytes that each render adds, and the same for renders that leak twice the bound.

    A fresh process renders all of them (tests/support/growth.py).
    """
    words = [str(number) for number in (20, RENDERS, 40, 2 * BOUND)]
    answer = subprocess.run(
        [sys.executable, "-m", "tests.support.growth", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    assert answer.returncode == 0, answer.stderr
    clean, leaking = map(float, answer.stdout.split())
    return clean, leaking


def test_memory_does_not_grow_over_a_hundred_renders(growth: tuple[float, float]) -> None:
    assert growth[0] <= BOUND


def test_growth_of_twice_the_bound_is_seen(growth: tuple[float, float]) -> None:
    assert growth[1] > BOUND
