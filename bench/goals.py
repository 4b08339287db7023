"""The goals of a case beside its measured values."""

from collections.abc import Sequence

from bench.case import CASES, Case
from bench.names import FRUGAL, OURS, OURS_COMPILED, STOCK
from bench.report import BackToBack, Goal, Halves, Row


def goals(
    case: Case, rows: Sequence[Row], in_a_row: BackToBack | None, halves: Halves | None
) -> list[Goal]:
    """Return the case's goals; a goal without a row says that it was not measured."""
    found = {each.name: each for each in rows}
    best, low, reference = found.get(OURS_COMPILED), found.get(FRUGAL), found.get(STOCK)
    clips = None if best is None else best.faster_clips
    steps = None if best is None else best.faster_steps
    if (case.width, case.height, case.steps) == (256, 256, 50):
        return [Goal("clips, times faster than diffusers", 2.0, clips)]
    if (case.width, case.height, case.steps) == (512, 512, 50):
        strong = None if best is None else best.faster_than_compiled
        floor = None if best is None else best.percent_of_floor
        saved = 100 * (1 - low.peak_bytes / reference.peak_bytes) if low and reference else None
        rest = None if in_a_row is None else 100 - in_a_row.idle_percent
        return [
            Goal("clips, times faster than diffusers", 1.6, clips),
            Goal("steps, times faster than diffusers", 1.35, steps),
            Goal("steps, times faster than compiled diffusers", 1.15, strong),
            Goal("% of the floor", 65, floor),
            Goal("% of memory saved by low memory", 35, saved),
            Goal("% of the time the device is busy between clips", 97, rest),
            Goal("diffusers' error in half precision, in ours", 0.8, _nearness(halves)),
        ]
    if case == CASES["cpu"][0]:
        eager = best or found.get(OURS)
        got = None if eager is None else eager.faster_steps
        return [Goal("steps, times faster than diffusers", 1.4, got)]
    return []


def _nearness(halves: Halves | None) -> float | None:
    """Return diffusers' error over ours: 0.8 if ours is 1.25 times as large; more is better."""
    return None if halves is None else 1 / halves.worst_ratio
