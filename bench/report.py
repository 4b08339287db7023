"""The results of a bench, as a table for people and as JSON for programs."""

import json
import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from bench.arms import Figures
from bench.engines import EngineReport, EngineRow

ENGINE_HEADINGS: Final = (
    *("pipeline", "ms a step", "faster", "s a clip", "faster clips"),
    *("error", "peak GiB", "clips"),
)
HEADINGS: Final = (
    *("arm", "ms a step", "faster", "than compiled", "s denoising", "s a clip", "faster clips"),
    *("error", "% of floor", "peak GiB", "estimated", "s compiling"),
)


@dataclass(frozen=True)
class Row:
    """The medians of one arm over its rounds, beside those of two peers."""

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
    estimated_bytes: int | None = None  # the full-size model's


@dataclass(frozen=True)
class Halves:
    """The relative errors of half precision against float32, one a step, from the same latents."""

    way: str  # "eager" or "compiled", of ours
    stock: list[float]
    ours: list[float]

    @property
    def worst_ratio(self) -> float:
        """Return the largest ratio of our error to diffusers' of a step; NaN counts as largest."""
        ratios = [ours / stock for ours, stock in zip(self.ours, self.stock, strict=True)]
        return max(math.inf if math.isnan(ratio) else ratio for ratio in ratios)


@dataclass(frozen=True)
class BackToBack:
    """Several clips one after another, as a worker renders them."""

    arm: str
    clips: int
    idle_seconds: float
    idle_percent: float
    bytes_a_clip: float


@dataclass(frozen=True)
class Goal:
    """The value that a row must reach; `got` is None if the row was not measured."""

    what: str
    at_least: float
    got: float | None

    def __str__(self) -> str:
        if self.got is None:
            return f"{self.what}: not measured, {self.at_least:g} asked"
        verdict = "reached" if self.got >= self.at_least else "MISSED"
        return f"{self.what}: {self.got:.2f}, {self.at_least:g} asked, {verdict}"


@dataclass
class CaseReport:
    """The results of a case so far."""

    title: str
    rows: list[Row] = field(default_factory=list)
    ablation: list[Row] = field(default_factory=list)
    halves: Halves | None = None
    back_to_back: BackToBack | None = None
    goals: list[Goal] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)  # rows that failed or were left out, and why


@dataclass(frozen=True)
class Report:
    command: str
    machine: str
    cases: list[CaseReport]
    engines: list[EngineReport] = field(default_factory=list)

    def write(self, stem: Path) -> None:
        """Write `stem`.md and `stem`.json; an interrupted write leaves the earlier files."""
        stem.parent.mkdir(parents=True, exist_ok=True)
        _write(stem.with_name(f"{stem.name}.md"), self.as_markdown())
        _write(stem.with_name(f"{stem.name}.json"), json.dumps(asdict(self), indent=2))

    def as_markdown(self) -> str:
        parts = [f"`{self.command}` on {self.machine}", *map(_case, self.cases)]
        parts += map(_engine, self.engines)
        return "\n\n".join(parts) + "\n"


def _engine(found: EngineReport) -> str:
    parts = [f"### {found.title}"]
    if found.rows:
        lines = [_engine_cells(each) for each in found.rows]
        rule = ["---", *["--:"] * (len(ENGINE_HEADINGS) - 1)]
        table = (list(ENGINE_HEADINGS), rule, *lines)
        parts.append("\n".join(f"| {' | '.join(cells)} |" for cells in table))
    if (cost := found.previews) is not None:
        parts.append(
            f"Previews: {cost.fit_ms:.1f} ms once a clip for the map, {cost.image_ms:.2f} ms"
            " for each image, of which a clip has some ten."
        )
    if found.missing:
        parts.append("\n".join(f"- {each}" for each in found.missing))
    return "\n\n".join(parts)


def _engine_cells(found: EngineRow) -> list[str]:
    return [
        found.name,
        f"{found.step_ms:.1f}",
        f"{found.faster_steps:.2f} x",
        f"{found.clip_seconds:.2f}",
        f"{found.faster_clips:.2f} x",
        f"{found.error:.1e}",
        f"{found.peak_bytes / 2**30:.2f}",
        str(found.clips),
    ]


def _write(path: Path, text: str) -> None:
    new = path.with_name(f"{path.name}.new")
    new.write_text(text, encoding="utf-8")
    new.replace(path)


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
    """Return an arm's row; ratios are medians over neighbours, which the same load meets."""
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
    parts = [f"### {case.title}"]
    if case.rows:
        parts.append(_table(case.rows, HEADINGS))
    if case.ablation:
        # These arms only denoise; only the reference makes a file.
        headings = [each for each in HEADINGS if each not in ("s a clip", "faster clips")]
        parts += ["Technique by technique, each added to those above it:"]
        parts += [_table(case.ablation, headings)]
    if (halves := case.halves) is not None:
        parts.append(
            f"Half precision, {halves.way}, against float32 from the same latents at each of"
            f" {len(halves.ours)} steps: ours strays by {max(halves.ours):.1e} at most, diffusers"
            f" by {max(halves.stock):.1e}; at no step more than {halves.worst_ratio:.2f} x as far."
        )
    if (found := case.back_to_back) is not None:
        parts.append(
            f"Back to back, {found.clips} clips, {found.arm}: the device rests"
            f" {1000 * found.idle_seconds:.0f} ms between two"
            f" ({found.idle_percent:.1f} % of a clip), and {found.bytes_a_clip:+.0f} bytes stay"
            " held after each."
        )
    if case.goals or case.missing:
        parts.append("\n".join(f"- {each}" for each in (*case.goals, *case.missing)))
    return "\n\n".join(parts)


def _table(rows: Sequence[Row], headings: Sequence[str]) -> str:
    made = [_cells(each) for each in rows]
    lines = [[each[heading] for heading in headings] for each in made]
    rule = ["---", *["--:"] * (len(headings) - 1)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (headings, rule, *lines))


def _cells(found: Row) -> dict[str, str]:
    strong, estimated = found.faster_than_compiled, found.estimated_bytes
    each = (
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
        "-" if estimated is None else f"{estimated / 2**30:.2f}",
        f"{found.compile_seconds:.0f}",
    )
    return dict(zip(HEADINGS, each, strict=True))
