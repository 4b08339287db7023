"""The bench compares its arms, and each number measures what its name says.

A compiler that returns its input replaces torch's compiler, which takes minutes on a CPU. What
torch's compiler traces is compared with eager in tests/integration/i2vgen/test_i2vgen_compiled.py.
"""

import json
import math
import mmap
import re
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from bench import back_to_back as rows_of_clips
from bench.arms import Figures, interleaved
from bench.case import Case
from bench.floor import step_flops
from bench.gauges import Peak, held_bytes
from bench.goals import goals
from bench.measure import Bench, Effort, Measured
from bench.models import Parts, draw_parts, ours
from bench.names import FRUGAL, OURS, OURS_COMPILED, STOCK, STOCK_COMPILED
from bench.report import CaseReport, Goal, Halves, Report, row
from tests.support.benches import CASE, TINY, small_bench
from tests.support.processes import until
from worker.engines.i2vgen.context import KeptContext

pytestmark = [pytest.mark.extended, pytest.mark.long, pytest.mark.timeout(600)]

CPU = torch.device("cpu")
TECHNIQUES = [
    STOCK,
    "own loop, conditions once a clip",
    "+ keys and values once a clip",
    "+ rows part at the first look",
    "+ flat temporal convolutions",
    "+ weights by pixel",
    "+ torch.compile",
    "+ one launch a step",
]


@pytest.fixture(scope="module")
def parts() -> Parts:
    return draw_parts(TINY, CPU)


@pytest.fixture(scope="module")
def bench(parts: Parts, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return small_bench(parts, tmp_path_factory.mktemp("bench"))


@pytest.fixture(scope="module")
def case(bench: Bench) -> CaseReport:
    measured = Measured(bench, CASE)
    measured.measure()
    measured.ablate()
    return measured.report


def test_every_arm_has_its_row_and_every_column_a_number(case: CaseReport) -> None:
    assert [each.name for each in case.rows] == [
        STOCK,
        STOCK_COMPILED,
        OURS,
        OURS_COMPILED,
        FRUGAL,
    ]
    assert [each.name for each in case.ablation] == TECHNIQUES
    for each in case.rows:
        assert each.faster_than_compiled is not None
        assert 0 < each.step_ms / 1000 < each.clip_seconds
    for each in (*case.rows, *case.ablation):
        numbers = [value for value in asdict(each).values() if isinstance(value, int | float)]
        assert all(math.isfinite(value) for value in numbers)
        assert min(each.step_ms, each.percent_of_floor, each.peak_bytes, each.faster_clips) > 0
        assert each.least_faster <= each.faster_steps <= each.most_faster


def test_every_arm_and_every_technique_ends_in_the_references_latents(case: CaseReport) -> None:
    exact = [each for each in (*case.rows, *case.ablation) if each.name != STOCK]
    assert len(exact) == 4 + 7
    assert all(each.error <= 1e-4 for each in exact)
    ours_only = [each for each in exact if each.name != STOCK_COMPILED]
    # An error above zero shows another sum, and not the same numbers twice.
    assert all(each.error > 0 for each in ours_only)


def test_the_reference_is_held_against_itself(case: CaseReport) -> None:
    reference = case.rows[0]
    assert (reference.faster_steps, reference.faster_clips, reference.error) == (1.0, 1.0, 0.0)
    assert reference.compile_seconds == 0


def test_an_arm_renders_a_file(bench: Bench, case: CaseReport) -> None:
    assert (bench.folder / "clip.mp4").stat().st_size > 500


def test_clips_in_a_row_rest_for_less_than_they_take(case: CaseReport) -> None:
    found = case.back_to_back
    assert found is not None
    assert (found.arm, found.clips) == (OURS_COMPILED, 2)
    assert 0 < found.idle_percent < 100
    assert math.isfinite(found.bytes_a_clip)


def test_a_pause_between_clips_is_seen(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def late(*given: Any) -> Any:
        # The test checks that this second is counted.
        time.sleep(1.0)
        return writer(*given)

    writer = rows_of_clips._writer
    monkeypatch.setattr(rows_of_clips, "_writer", late)

    assert Measured(bench, CASE).in_a_row(ours(bench.parts), None).idle_seconds > 1.0


def test_the_report_is_written_for_readers_and_for_programs(
    case: CaseReport, tmp_path: Path
) -> None:
    report = Report("python -m bench.render", "a machine", [case])
    report.write(tmp_path / "new" / "bench-cpu")

    text = (tmp_path / "new" / "bench-cpu.md").read_text()
    assert "nan" not in text
    assert "inf" not in text
    for name in (STOCK, STOCK_COMPILED, OURS, OURS_COMPILED, FRUGAL):
        assert cells(text, name)[0] == 12
    # Techniques make no files, so they have no figures of a clip's seconds.
    for name in TECHNIQUES:
        assert cells(text, name)[-1] == 10
    assert re.search(r"ours strays by \d.\de-\d\d at most, diffusers by", text)
    assert re.search(r"Back to back, 2 clips, stillreel, compiled: the device rests \d+ ms", text)
    read = json.loads((tmp_path / "new" / "bench-cpu.json").read_text())
    assert [each["name"] for each in read["cases"][0]["rows"]] == [e.name for e in case.rows]


def test_a_wrong_technique_shows_as_error(
    parts: Parts, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = KeptContext.__call__

    def without_values(self: KeptContext, *given: Any, **options: Any) -> Any:
        context = options["encoder_hidden_states"]
        options["encoder_hidden_states"] = tuple((k, torch.zeros_like(v)) for k, v in context)
        return kept(self, *given, **options)

    monkeypatch.setattr(KeptContext, "__call__", without_values)
    found = Measured(replace(bench, compiler=None, effort=Effort(1, 0, 0, 0, 0)), CASE)
    found.measure()

    assert {each.name: each.error > 1e-3 for each in found.report.rows} == {
        STOCK: False,
        OURS: True,
        FRUGAL: True,
    }


def test_the_floor_is_that_of_the_references_sums(parts: Parts) -> None:
    assert 0 < step_flops(CASE, parts) < step_flops(replace(CASE, width=256), parts)


def test_the_arms_take_turns_and_begin_in_turn() -> None:
    order: list[str] = []

    def run(name: str, request: Any) -> Figures:
        order.append(name)
        return Figures(1.0, 1.0)

    rounds = interleaved("ab", [CASE.request(number) for number in range(3)], run)

    assert [len(figures["a"]) for figures in rounds] == [1, 2, 3]
    assert order == ["a", "b", "b", "a", "a", "b"]


def test_an_arm_that_is_lost_takes_no_further_turn() -> None:
    def run(name: str, request: Any) -> Figures | None:
        return None if name == "b" else Figures(1.0, 1.0)

    rounds = interleaved("ab", [CASE.request(number) for number in range(2)], run)

    assert [list(figures) for figures in rounds] == [["a"], ["a"]]


def test_ratios_are_the_median_of_neighbours() -> None:
    """The ratio of the two medians would be 40 / 20 = 2, which no pair of neighbours had."""
    theirs = [Figures(ms, ms) for ms in (10.0, 40.0, 60.0)]
    mine = [Figures(ms, ms) for ms in (10.0, 50.0, 20.0)]
    found = row(
        "ours",
        {"stock": theirs, "ours": mine},
        against="stock",
        compiled=None,
        floor_ms=10.0,
        steps=50,
        error=0.0,
        peak_bytes=1,
        compile_seconds=0.0,
    )

    assert (found.least_faster, found.faster_steps, found.most_faster) == (0.8, 1.0, 3.0)
    assert (found.denoise_seconds, found.percent_of_floor) == (1.0, 50.0)
    assert found.faster_than_compiled is None


def test_a_missed_goal_says_so(case: CaseReport) -> None:
    asked = goals(Case(512, 512, 16, 50), case.rows, None, Halves("eager", [0.1, 0.1], [0.1, 0.2]))

    assert len(asked) == 7
    assert str(Goal("steps", 1.4, 1.3)) == "steps: 1.30, 1.4 asked, MISSED"
    assert str(Goal("steps", 1.4, 1.4)) == "steps: 1.40, 1.4 asked, reached"
    assert str(asked[-2]).endswith("not measured, 97 asked")
    assert str(asked[-1]).endswith("in ours: 0.50, 0.8 asked, MISSED")
    assert not goals(Case(512, 512, 16, 50), [], None, None)[0].got


def test_memory_taken_for_a_moment_is_seen_at_its_peak(monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[int] = []

    def look(device: torch.device) -> int:
        looks.append(held_bytes(device))
        return looks[-1]

    monkeypatch.setattr("bench.gauges.held_bytes", look)
    # This maps new memory. Memory that earlier tests freed could be reused, and the system would
    # not see a change.
    with Peak(CPU) as peak, mmap.mmap(-1, 64 * 2**20) as taken:
        taken.write(bytes(len(taken)))
        before = len(looks)
        until(lambda: len(looks) > before + 1, "a look that began after that")

    assert peak.bytes > 50 * 2**20


def test_no_drawn_weight_is_zero_throughout(parts: Parts) -> None:
    for model in (parts.unet, parts.vae, parts.text_encoder, parts.image_encoder):
        assert all(weight.any() for weight in model.parameters())


def cells(text: str, name: str) -> list[int]:
    """Return the number of cells in each line of an arm."""
    lines = [line for line in text.splitlines() if line.startswith(f"| {name} |")]
    return [len(line.strip("|").split("|")) for line in lines]
