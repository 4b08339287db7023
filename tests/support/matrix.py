"""Matrices of values: `make test` has each value of an axis, `make test-all` the other pairs."""

from collections.abc import Sequence

import pytest


def in_turn(longer: Sequence[object], shorter: Sequence[object]) -> list[pytest.ParameterSet]:
    """Return all pairs; each value of the longer axis is in one that is not `extended`.

    Its partners there are the values of the shorter axis, one after another.
    """
    return [
        pytest.param(
            one,
            other,
            marks=[] if place == number % len(shorter) else [pytest.mark.extended],
        )
        for number, one in enumerate(longer)
        for place, other in enumerate(shorter)
    ]
