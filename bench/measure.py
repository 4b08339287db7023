"""Measures a case arm by arm; each row is reported at once, and a failure costs its row only."""

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TypeVar

import torch

from bench.ablation import ablations
from bench.arms import Arm, Clock, Figures, StockArm, Warm, interleaved, relative_error
from bench.back_to_back import back_to_back
from bench.budget import Budget, attempt, say
from bench.case import Case
from bench.floor import step_flops
from bench.gauges import Peak
from bench.goals import goals
from bench.halves import half_errors
from bench.lineup import Arms, line_up
from bench.models import Parts, ours, resident_bytes, stock
from bench.names import COMPILED, FRUGAL, OURS, OURS_COMPILED, STOCK, STOCK_COMPILED
from bench.report import BackToBack, CaseReport, Halves, Row, row
from worker.engines.base import RenderRequest
from worker.engines.diffusion.faults import release
from worker.engines.i2vgen.compiled import Compiler
from worker.engines.i2vgen.footprint import FOOTPRINT, needed
from worker.engines.i2vgen.weights import Model

T = TypeVar("T")


@dataclass(frozen=True)
class Effort:
    """How often each part is measured; 0 leaves it out."""

    rounds: int
    engine_rounds: int
    ablation_rounds: int
    clips_in_a_row: int
    half_steps: int


@dataclass(frozen=True)
class Bench:
    """How cases are measured, and the function that is called after each new row."""

    parts: Parts
    folder: Path
    effort: Effort
    clock: Clock
    compiler: Compiler | None
    flops_per_second: float
    budget: Budget
    on_found: Callable[[], None]


@dataclass(frozen=True)
class First:
    peak_bytes: int
    seconds: float
    latents: torch.Tensor
    figures: Figures


class Measured:
    """Measures one case; `report` has the results so far."""

    def __init__(self, bench: Bench, case: Case) -> None:
        self.report = CaseReport(str(case))
        self._bench = bench
        self._case = case

    @cached_property
    def _floor_ms(self) -> float:
        return 1000 * step_flops(self._case, self._bench.parts) / self._bench.flops_per_second

    def measure(self) -> None:
        """Measure the arms that make files, then half precision, then clips one after another."""
        bench, case = self._bench, self._case
        arms = self._attempt("the arms", lambda: line_up(bench.parts, case, bench.compiler))
        if arms is None:
            return
        self._table(arms, bench.effort.rounds, self.report.rows)
        is_warm = OURS_COMPILED in [each.name for each in self.report.rows]
        warm = arms.warm if is_warm else None
        if bench.effort.half_steps:
            self.report.halves = self._attempt("half precision", lambda: self._halves(warm))
            self._found()
        if bench.effort.clips_in_a_row:
            found = self._attempt("clips in a row", lambda: self.in_a_row(arms.model, warm))
            self.report.back_to_back = found
        self._found()

    def ablate(self, budget: Budget | None = None) -> None:
        """Add a row for each technique together with those above it, within a time of its own."""
        if budget is not None:
            self._bench = replace(self._bench, budget=budget)
        bench, model = self._bench, ours(self._bench.parts)
        reference = StockArm(stock(bench.parts), model)
        shape = self._case.shape(model)
        techniques = ablations(model, bench.parts.unet, shape, bench.compiler)
        arms = Arms(model, {STOCK: reference, **techniques})
        self._table(arms, bench.effort.ablation_rounds, self.report.ablation)

    def _table(self, arms: Arms, rounds: int, rows: list[Row]) -> None:
        """Fill `rows`, round by round; with no rounds, nothing is compiled."""
        if not rounds:
            return
        firsts = self._firsts(arms, rows)
        if STOCK not in firsts:
            self._miss("the reference is lost, and all rows with it")
            return
        requests = [self._case.request(1 + number) for number in range(rounds)]

        def run(name: str, request: RenderRequest) -> Figures | None:
            return self._attempt(name, lambda: self._render(arms.rendering[name], request))

        for number, figures in enumerate(interleaved(list(firsts), self._in_time(requests), run)):
            if STOCK not in figures or (rows and not self._bench.budget.has(0)):
                self._miss(f"round {number + 1} was not whole and is left out")
                return
            rows[:] = [self._row(name, firsts, figures) for name in firsts if name in figures]
            say(f"{self._case}: round {number + 1} of {rounds}")
            self._found()

    def _in_time(self, requests: Sequence[RenderRequest]) -> Iterator[RenderRequest]:
        """Yield requests as long as another round fits into the time that is left."""
        longest = 0.0
        for number, request in enumerate(requests):
            began = time.monotonic()
            if not self._bench.budget.has(longest):
                self._miss(f"{number} rounds of {len(requests)}: the time was over")
                return
            yield request
            longest = max(longest, time.monotonic() - began)

    def _firsts(self, arms: Arms, rows: list[Row]) -> dict[str, First]:
        """Return what each arm took for its warm-up and one run, without the arms that failed.

        Each arm gets its row at once, of that clip only, because time may run out. Ours run
        before the peers other than the reference.
        """
        firsts: dict[str, First] = {}
        for name in sorted(arms.rendering, key=lambda each: each == STOCK_COMPILED):
            say(f"{self._case}: first clip of {name}")
            first = self._attempt(name, partial(self._first, name, arms))
            if first is None:
                continue
            firsts[name] = first
            if STOCK in firsts:
                figures = {each: [found.figures] for each, found in firsts.items()}
                rows[:] = [self._row(each, firsts, figures) for each in firsts]
                self._found()
        return {name: firsts[name] for name in arms.rendering if name in firsts}

    def _first(self, name: str, arms: Arms) -> First:
        """Warm up and run an arm once; it has the peak: a recorded launch allocates now."""
        arm, began = arms.rendering[name], time.perf_counter()
        with Peak(arm.model.device) as peak:
            arm.warm()
            figures = self._render(arm, self._case.request(0))
        seconds = time.perf_counter() - began
        latents = figures.latents
        if name in arms.denoising:
            latents = self._render(arms.denoising[name], self._case.request(0)).latents
        assert latents is not None
        if not bool(torch.isfinite(latents).all()):
            raise FloatingPointError("its latents are not finite")
        return First(peak.bytes + resident_bytes(arm.model), seconds, latents, figures)

    def _row(self, name: str, firsts: dict[str, First], figures: dict[str, list[Figures]]) -> Row:
        first = firsts[name]
        return row(
            name,
            figures,
            against=STOCK,
            compiled=STOCK_COMPILED,
            floor_ms=self._floor_ms,
            steps=self._case.steps,
            error=relative_error(first.latents, firsts[STOCK].latents),
            peak_bytes=first.peak_bytes,
            estimated_bytes=self._estimated(name),
            compile_seconds=_compile_seconds(name, first, figures[name]),
        )

    def _estimated(self, name: str) -> int | None:
        """Return admission's estimate, without the part that no count of tensors shows."""
        way = {OURS: "normal", FRUGAL: "low"}.get(name)
        if way is None or self._bench.parts.device.type == "cpu":
            return None
        case = self._case
        size = {"width": case.width, "height": case.height, "num_frames": case.frames}
        return needed(way, **size) - FOOTPRINT.fixed_bytes

    def in_a_row(self, model: Model, warm: Warm | None) -> BackToBack:
        """Render clips one after another, by the compiled arm if there is one."""
        count, (arm, own) = self._bench.effort.clips_in_a_row, (OURS, model)
        if warm is not None:
            arm, own = OURS_COMPILED, warm.model
        say(f"{self._case}: {count} clips in a row")
        requests = [self._case.request(100 + number) for number in range(count)]
        compiled = None if warm is None else warm.compiled
        return back_to_back(own, requests, self._bench.folder, compiled, arm=arm)

    def _halves(self, warm: Warm | None) -> Halves:
        say(f"{self._case}: half precision beside float32")
        return half_errors(self._bench.parts, self._case, self._bench.effort.half_steps, warm)

    def _render(self, arm: Arm, request: RenderRequest) -> Figures:
        return arm.run(request, self._bench.folder / "clip.mp4", self._bench.clock)

    def _attempt(self, what: str, work: Callable[[], T]) -> T | None:
        if not self._bench.budget.has(0):
            self._miss(f"{what}: left out, the time was over")
            return None
        seconds = self._bench.budget.next_seconds
        found = attempt(what, work, seconds=seconds, on_lost=self._miss)
        if found is None:
            release(self._bench.parts.device)
        return found

    def _miss(self, why: str) -> None:
        self.report.missing.append(why)
        self._found()

    def _found(self) -> None:
        found = self.report
        found.goals = goals(self._case, found.rows, found.back_to_back, found.halves)
        self._bench.on_found()


def _compile_seconds(name: str, first: First, figures: Sequence[Figures]) -> float:
    """Return how much longer the first run took than the others; 0 if not compiled."""
    usual = statistics.median(each.seconds for each in figures)
    return max(0.0, first.seconds - usual) if name in COMPILED else 0.0
