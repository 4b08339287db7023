"""What a bench found, as a table for a reader and as JSON for a program."""

import json
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench.arms import Figures


@dataclass(frozen=True)
class Row:
    """One arm's medians over its rounds, beside those of the two arms it is held against."""

    name: str
    step_ms: float
    denoise_seconds: float
    clip_seconds: float
    faster_steps: float  # than diffusers
    least_faster: float
    most_faster: float
    faster_clips: float
    faster_than_compiled: float | None  # in steps, than diffusers + torch.compile
    error: float
    percent_of_floor: float
    peak_bytes: int
    compile_seconds: float
    estimated_bytes: int | None = None  # of the peak, where the full-size model's estimate applies


@dataclass(frozen=True)
class BackToBack:
    """Several clips one after the other, as a worker renders them."""

    clips: int
    idle_seconds: float
    idle_percent: float
    bytes_a_clip: float


@dataclass(frozen=True)
class Goal:
    """What a row is to reach; `got` is None where the row was not measured."""

    what: str
    at_least: float
    got: float | None

    def __str__(self) -> str:
        if self.got is None:
            return f"{self.what}: not measured, {self.at_least:g} asked"
        verdict = "reached" if self.got >= self.at_least else "MISSED"
        return f"{self.what}: {self.got:.2f}, {self.at_least:g} asked, {verdict}"


@dataclass(frozen=True)
class CaseReport:
    title: str
    rows: Sequence[Row]
    ablation: Sequence[Row]
    back_to_back: BackToBack | None
    goals: Sequence[Goal]


@dataclass(frozen=True)
class Report:
    command: str
    machine: str
    cases: Sequence[CaseReport]

    def write(self, stem: Path) -> None:
        """Write `stem`.md and `stem`.json."""
        stem.parent.mkdir(parents=True, exist_ok=True)
        stem.with_suffix(".md").write_text(self.as_markdown(), encoding="utf-8")
        stem.with_suffix(".json").write_text(json.dumps(asdict(self), indent=2), encoding="utf-8")

    def as_markdown(self) -> str:
        parts = [f"`{self.command}` on {self.machine}", *map(_case, self.cases)]
        return "\n\n".join(parts) + "\n"


def row(
    name: str,
    figures: dict[str, list[Figures]],
    *,
    against: str,
    compiled: str | None,
    floor_ms: float,
    steps: int,
    **found: Any,
) -> Row:
    """Return an arm's row; ratios are medians of those of neighbours, which one mood meets."""
    mine = figures[name]
    ratios = _ratios(figures[against], mine, "step_ms")
    step_ms = statistics.median(each.step_ms for each in mine)
    strong = figures.get(compiled or "")
    return Row(
        name=name,
        step_ms=step_ms,
        denoise_seconds=step_ms * steps / 1000,
        clip_seconds=statistics.median(each.seconds for each in mine),
        faster_steps=statistics.median(ratios),
        least_faster=min(ratios),
        most_faster=max(ratios),
        faster_clips=statistics.median(_ratios(figures[against], mine, "seconds")),
        faster_than_compiled=(
            statistics.median(_ratios(strong, mine, "step_ms")) if strong else None
        ),
        percent_of_floor=100 * floor_ms / step_ms,
        **found,
    )


def _ratios(theirs: list[Figures], mine: list[Figures], what: str) -> list[float]:
    pairs = zip(theirs, mine, strict=True)
    return [getattr(a, what) / getattr(b, what) for a, b in pairs]


def _case(case: CaseReport) -> str:
    parts = [f"### {case.title}", _table(case.rows)]
    if case.ablation:
        parts += ["Technique by technique, each added to those above it:", _table(case.ablation)]
    if (found := case.back_to_back) is not None:
        parts.append(
            f"Back to back, {found.clips} clips: the device rests"
            f" {1000 * found.idle_seconds:.0f} ms between two"
            f" ({found.idle_percent:.1f} % of a clip), and {found.bytes_a_clip:+.0f} bytes stay"
            " held after each."
        )
    if case.goals:
        parts.append("\n".join(f"- {goal}" for goal in case.goals))
    return "\n\n".join(parts)


def _table(rows: Sequence[Row]) -> str:
    headings = (
        *("arm", "ms a step", "faster", "than compiled", "s denoising", "s a clip", "faster"),
        *("error", "% of floor", "peak GiB", "estimated", "s compiling"),
    )
    lines = [headings, ("---", *["--:"] * (len(headings) - 1)), *map(_cells, rows)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _cells(found: Row) -> tuple[str, ...]:
    strong = found.faster_than_compiled
    return (
        found.name,
        f"{found.step_ms:.1f}",
        f"{found.faster_steps:.2f} x ({found.least_faster:.2f}-{found.most_faster:.2f})",
        "-" if strong is None else f"{strong:.2f} x",
        f"{found.denoise_seconds:.2f}",
        f"{found.clip_seconds:.2f}",
        f"{found.faster_clips:.2f} x",
        f"{found.error:.1e}",
        f"{found.percent_of_floor:.0f}",
        f"{found.peak_bytes / 2**30:.2f}",
        "-" if found.estimated_bytes is None else f"{found.estimated_bytes / 2**30:.2f}",
        f"{found.compile_seconds:.0f}",
    )
