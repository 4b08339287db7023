"""A bench that fails or exceeds its time loses only the rows concerned, and says why."""

import math
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from bench import back_to_back as rows_of_clips
from bench import measure
from bench.arms import Figures
from bench.budget import Budget, TooSlow, at_most
from bench.lineup import Arms
from bench.measure import Bench, Effort, Measured
from bench.models import Parts, draw_parts, ours
from bench.names import FRUGAL, OURS, OURS_COMPILED, STOCK, STOCK_COMPILED
from bench.report import CaseReport, Report
from tests.support.benches import CASE, TINY, small_bench
from worker.engines.i2vgen.denoiser import Denoiser
from worker.engines.i2vgen.weights import Model

pytestmark = [pytest.mark.extended, pytest.mark.timeout(300)]

ROWS_ALONE = Effort(rounds=1, engine_rounds=0, ablation_rounds=0, clips_in_a_row=0, half_steps=0)


class Instant:
    """An arm that takes no time, and fails in the run of this number."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.latents = torch.ones(2)
        self.fails_at = self._runs = 0

    def warm(self) -> None:
        """There is nothing to compile."""

    def run(self, *given: Any) -> Figures:
        self._runs += 1
        if self._runs == self.fails_at:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return Figures(1.0, 2.0, self.latents)


@pytest.fixture(scope="module")
def parts() -> Parts:
    return draw_parts(TINY, torch.device("cpu"))


@pytest.fixture
def bench(parts: Parts, tmp_path: Path) -> Bench:
    return replace(small_bench(parts, tmp_path), effort=ROWS_ALONE, compiler=None)


@pytest.fixture
def arms(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> dict[str, Instant]:
    """Return the arms of every bench of the test; they render nothing."""
    model = ours(parts)
    found = {name: Instant(model) for name in (STOCK, OURS, FRUGAL)}
    monkeypatch.setattr(measure, "line_up", lambda *given: Arms(model, dict(found)))
    return found


def test_a_compile_that_fails_costs_the_compiled_row_alone(bench: Bench) -> None:
    def broken(run: Callable[..., Any]) -> Callable[..., Any]:
        def fail(*_: Any, **__: Any) -> Any:
            raise RuntimeError("no compiler")

        return fail if getattr(run, "__self__", None).__class__ is Denoiser else run

    found = measured(replace(bench, compiler=broken))

    assert names(found) == [STOCK, STOCK_COMPILED, OURS, FRUGAL]
    (why,) = found.missing
    assert why.startswith(f"{OURS_COMPILED}: lost, RuntimeError: our arm could not be compiled")


def test_an_arm_that_fails_in_a_later_round_leaves_the_others(
    bench: Bench, arms: dict[str, Instant]
) -> None:
    # The arm's first clip succeeds.
    arms[FRUGAL].fails_at = 2

    found = measured(bench)

    assert names(found) == [STOCK, OURS]
    assert [line.partition(":")[0] for line in found.missing] == [FRUGAL]
    assert "OutOfMemoryError: CUDA out of memory" in found.missing[0]


def test_without_the_reference_there_are_no_rows_and_the_bench_goes_on(
    bench: Bench, arms: dict[str, Instant]
) -> None:
    arms[STOCK].fails_at = 1

    found = measured(replace(bench, effort=replace(ROWS_ALONE, half_steps=1)))

    assert names(found) == []
    assert "the reference is lost, and all rows with it" in found.missing
    assert found.halves is not None


def test_numbers_that_are_not_finite_are_no_row(bench: Bench, arms: dict[str, Instant]) -> None:
    arms[OURS].latents = torch.tensor([1.0, torch.nan])

    found = measured(bench)

    assert names(found) == [STOCK, FRUGAL]
    assert found.missing == [f"{OURS}: lost, FloatingPointError: its latents are not finite"]


def test_rows_are_on_disk_before_clips_in_a_row_are_rendered(
    bench: Bench, arms: dict[str, Instant], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """If the owner of the card kills the bench at this point, no row is lost."""
    stem, there = tmp_path / "bench", []

    def killed(*given: Any) -> Any:
        there.append((tmp_path / "bench.md").read_text())
        raise RuntimeError("no file")

    monkeypatch.setattr(rows_of_clips, "_writer", killed)
    report = Report("python -m bench.render", "a machine", [])
    effort = replace(ROWS_ALONE, clips_in_a_row=1)
    bench = replace(bench, effort=effort, on_found=lambda: report.write(stem))
    one = Measured(bench, CASE)
    report.cases.append(one.report)
    one.measure()

    (text,) = there
    assert all(f"| {name} |" in text for name in (STOCK, OURS, FRUGAL))
    assert "- clips in a row: lost, RuntimeError: no file" in (tmp_path / "bench.md").read_text()


def test_what_does_not_fit_the_time_is_left_out_and_named(bench: Bench) -> None:
    budget = Budget(ends=time.monotonic() - 1, arm_seconds=300)

    found = measured(replace(bench, budget=budget))

    assert found.missing == ["the arms: left out, the time was over"]


def test_rounds_end_where_another_does_not_fit(bench: Bench, arms: dict[str, Instant]) -> None:
    ending = Budget(ends=math.inf, arm_seconds=300)
    found: list[int] = []

    def end_after_the_first_round() -> None:
        found.append(len(one.report.rows))
        # There is one call for the first clip of each arm, and one for the round.
        if len(found) == len(arms) + 1:
            ending.ends = time.monotonic()

    effort = replace(ROWS_ALONE, rounds=3)
    one = Measured(
        replace(bench, budget=ending, effort=effort, on_found=end_after_the_first_round), CASE
    )
    one.measure()

    assert names(one.report) == [STOCK, OURS, FRUGAL]
    assert one.report.missing == ["1 rounds of 3: the time was over"]


def test_an_arm_that_takes_too_long_is_stopped() -> None:
    with pytest.raises(TooSlow, match=r"more than 0 s"), at_most(0.1):
        threading.Event().wait(60)


def test_the_alarm_of_a_test_around_it_still_comes() -> None:
    before = signal.getitimer(signal.ITIMER_REAL)[0]
    handler = signal.getsignal(signal.SIGALRM)
    with at_most(100):
        pass

    assert signal.getsignal(signal.SIGALRM) is handler
    assert (signal.getitimer(signal.ITIMER_REAL)[0] > 0) == (before > 0)


def measured(bench: Bench) -> CaseReport:
    one = Measured(bench, CASE)
    one.measure()
    return one.report


def names(found: CaseReport) -> list[str]:
    return [each.name for each in found.rows]
