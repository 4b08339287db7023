"""Engines over diffusers' pipelines have rows beside the reference's, written one by one."""

import math
import time
from dataclasses import asdict
from pathlib import Path

import pytest
import torch

from bench.budget import Budget
from bench.engines import CASES, OURS, STOCK, EngineCase, EngineReport, MeasuredEngine
from bench.report import Report

CPU = torch.device("cpu")
SMALL = CASES["cpu"]


def measured(
    case: EngineCase, folder: Path, *, seconds: float = math.inf, rounds: int = 1
) -> tuple[EngineReport, list[list[str]]]:
    """Return the report, and the names of its rows after each new result."""
    found: list[list[str]] = []
    engine = MeasuredEngine(
        case,
        device=CPU,
        folder=folder,
        clock=time.perf_counter,
        budget=Budget(ends=time.monotonic() + seconds, arm_seconds=300),
        on_found=lambda: found.append([row.name for row in engine.report.rows]),
    )
    engine.measure(rounds)
    return engine.report, found


@pytest.mark.extended
@pytest.mark.timeout(300)
@pytest.mark.parametrize("case", SMALL, ids=[case.engine for case in SMALL])
def test_an_engine_has_its_rows_one_by_one_and_ends_in_the_references_latents(
    case: EngineCase, tmp_path: Path
) -> None:
    report, found = measured(case, tmp_path)

    assert found[:2] == [[STOCK], [STOCK, OURS]]
    reference, ours = report.rows
    assert (reference.name, ours.name) == (STOCK, OURS)
    assert (reference.faster_steps, reference.faster_clips, reference.error) == (1.0, 1.0, 0.0)
    assert ours.error <= 1e-4
    for row in report.rows:
        numbers = [value for value in asdict(row).values() if isinstance(value, int | float)]
        assert all(math.isfinite(value) for value in numbers)
        assert 0 < row.step_ms / 1000 < row.clip_seconds
    assert report.previews is not None
    assert 0 < report.previews.image_ms < 1000
    assert report.missing == []
    assert (tmp_path / "engine.mp4").stat().st_size > 200
    text = Report("a command", "a machine", [], [report]).as_markdown()
    assert f"| {OURS} | " in text
    assert "ms for each image" in text
    assert "nan" not in text


def test_what_the_time_does_not_reach_says_so(tmp_path: Path) -> None:
    report, _ = measured(SMALL[0], tmp_path, seconds=0)

    assert report.rows == []
    assert report.missing == ["the model: left out, the time was over"]
    assert report.missing[0] in Report("it", "here", [], [report]).as_markdown()


def test_a_part_of_the_time_ends_before_the_whole() -> None:
    now = time.monotonic()
    whole = Budget(ends=now + 1000, arm_seconds=60)

    part = whole.part(0.5)

    assert now + 400 < part.ends <= now + 600
    assert part.arm_seconds == 60
    assert Budget(ends=math.inf, arm_seconds=60).part(0.5).ends == math.inf
    assert not Budget(ends=now - 1, arm_seconds=60).part(0.5).has(0)


def test_wan_comes_before_svd_on_a_card() -> None:
    assert [case.engine for case in CASES["cuda"]] == ["wan", "svd"]
