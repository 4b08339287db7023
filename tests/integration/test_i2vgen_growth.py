"""A worker that has rendered a hundred clips holds no more memory than one at its start.

GROWTH_RENDERS=2000 makes it as long as `make soak` has it.
"""

import os
import subprocess
import sys

import pytest

from tests.stack import ROOT

BOUND = 100_000  # bytes a render
RENDERS = int(os.environ.get("GROWTH_RENDERS", "100"))
SECONDS = 110 + 3 * RENDERS  # A quarter of a second each where nothing else runs.

pytestmark = [pytest.mark.long, pytest.mark.timeout(SECONDS + 10)]


def test_memory_does_not_grow_over_a_hundred_renders() -> None:
    assert growth(warm_ups=20, renders=RENDERS) <= BOUND


def test_growth_of_twice_the_bound_is_seen() -> None:
    assert growth(warm_ups=20, renders=60, leaked_bytes=2 * BOUND) > BOUND


def growth(*, warm_ups: int, renders: int, leaked_bytes: int = 0) -> float:
    """Return the bytes that each render adds, in a fresh process (tests/growth.py)."""
    words = [str(number) for number in (warm_ups, renders, leaked_bytes)]
    answer = subprocess.run(
        [sys.executable, "-m", "tests.growth", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    assert answer.returncode == 0, answer.stderr
    return float(answer.stdout)
