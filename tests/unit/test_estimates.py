"""Estimates from similar clips that ended here and from the queue, or a reason for none."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest

from shared.engines.parameters import RenderParameters
from shared.engines.spec import Fit
from shared.jobs.estimates import EngineQueue, Rendered, Unknown, work

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def parameters(num_frames: int = 16) -> RenderParameters:
    return RenderParameters(
        prompt="",
        negative_prompt="",
        resolution=None,
        width=512,
        height=512,
        fit=Fit.CROP,
        num_frames=num_frames,
        fps=8,
        num_inference_steps=50,
        guidance_scale=9.0,
        seed=1,
    )


def rendered(*seconds: float, num_frames: int = 16, quality: str = "standard") -> list[Rendered]:
    return [Rendered(one, work(parameters(num_frames)), quality) for one in seconds]


@pytest.mark.parametrize(
    ("history", "expected"),
    [
        (rendered(8, 9, 10, 11, 60), 10),
        (rendered(8, 9, 10, 11), None),
        (rendered(8, 9, 10, 11) + rendered(30, num_frames=25), None),
        (rendered(8, 9, 10, 11) + rendered(30, num_frames=24), 10),
        (rendered(8, 9, 10, 11) + rendered(30, quality="draft"), None),
    ],
)
def test_five_like_clips_say_how_long_the_next_takes(
    history: Sequence[Rendered], expected: float | None
) -> None:
    queue = EngineQueue(engine="e", workers=1, rendered=history)
    found = queue.estimate(parameters())
    assert found.render_seconds == expected
    assert found.unknown == (None if expected else Unknown.TOO_FEW_ENDED)


@pytest.mark.parametrize(
    ("workers", "running_left", "ahead", "start"),
    [
        (1, [], 0, 0.0),
        (1, [4.0], 0, 4.0),
        (1, [4.0], 2, 24.0),
        (1, [None], 0, 10.0),
        (2, [4.0], 0, 0.0),
        (2, [4.0, 7.0], 1, 7.0),
        (2, [4.0, 7.0], 2, 14.0),
        (2, [], 10_000, 50_000.0),
    ],
)
def test_a_job_starts_when_a_worker_has_done_those_ahead(
    workers: int, running_left: Sequence[float | None], ahead: int, start: float
) -> None:
    queue = EngineQueue(
        engine="e",
        workers=workers,
        running_left=running_left,
        rendered=rendered(10, 10, 10, 10, 10),
    )
    assert queue.start_seconds(ahead) == start


def test_without_a_worker_nothing_is_promised() -> None:
    queue = EngineQueue(engine="e", rendered=rendered(10, 10, 10, 10, 10))
    found = queue.estimate(parameters())
    assert (found.start_seconds, found.end_seconds) == (None, None)
    assert found.unknown is Unknown.NO_WORKER


def test_a_place_far_behind_is_known_to_the_nearest_mark() -> None:
    marks = [(NOW + timedelta(seconds=rank), rank) for rank in [*range(1, 1001), 1100, 1200]]
    queue = EngineQueue(engine="e", marks=marks)
    assert queue.ahead(NOW) == 0
    assert queue.ahead(NOW + timedelta(seconds=1)) == 0
    assert queue.ahead(NOW + timedelta(seconds=500)) == 499
    assert queue.ahead(NOW + timedelta(seconds=1150)) == 1100
