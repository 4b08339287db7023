"""If workers differ on an engine's weights, the state that is nearest to rendering counts."""

from typing import Any

import pytest

from shared.engines.weights import WeightsState, best_of

MISSING = {"state": "missing", "message": "pull them"}
FIFTH = {"state": "downloading", "bytes_done": 1, "bytes_total": 5}
HALF = {"state": "downloading", "bytes_done": 1, "bytes_total": 2}
READY = {"state": "ready"}


@pytest.mark.parametrize(
    ("told", "state", "done"),
    [
        ([MISSING, FIFTH, HALF], WeightsState.DOWNLOADING, 0.5),
        ([HALF, READY, MISSING], WeightsState.READY, 0.0),
        ([MISSING], WeightsState.MISSING, 0.0),
        ([MISSING, {"state": "of a newer release"}, None], WeightsState.MISSING, 0.0),
    ],
)
def test_the_nearest_to_rendering_counts(
    told: list[Any], state: WeightsState, done: float
) -> None:
    best = best_of(told)

    assert best is not None
    assert (best.state, best.fraction) == (state, done)


def test_where_none_says_anything_nothing_is_shown() -> None:
    assert best_of([]) is None
    assert best_of([{"state": "of a newer release"}]) is None
