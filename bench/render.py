"""How fast and how exact our rendering is, beside diffusers' pipeline in the same process.

Run `python -m bench.render` for small random models on the CPU, or with `--device cuda` for the
real size. The arms take turns. The reference has the shim that its default call needs since
transformers 5, and nothing else. The report is printed and kept in outputs/.
"""

import argparse
import os
import platform
import shlex
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Final

import torch
from torch.utils.flop_counter import FlopCounterMode

from bench.ablation import COMPILED_TECHNIQUES, ablations
from bench.arms import (
    Arm,
    Clock,
    DenoisingArm,
    Figures,
    OurArm,
    StockArm,
    Warm,
    drawn,
    interleaved,
    relative_error,
)
from bench.back_to_back import back_to_back
from bench.gauges import CLOCKS, Peak, flops_per_second
from bench.models import (
    FULL,
    SMALL,
    Parts,
    apart,
    draw_parts,
    ours,
    resident_bytes,
    stock,
    without_encoders,
)
from bench.report import BackToBack, CaseReport, Goal, Report, Row, row
from shared.catalogue import Fit, Parameters
from tests.photos import photo
from worker.engines.base import RenderRequest
from worker.engines.i2vgen.compiled import Compiler, WarmShape, whole_graph
from worker.engines.i2vgen.ddim import ddim_steps
from worker.engines.i2vgen.denoiser import Denoiser
from worker.engines.i2vgen.footprint import FOOTPRINT, needed
from worker.engines.i2vgen.memory import LOW
from worker.engines.i2vgen.weights import Model

STOCK: Final = "diffusers"
STOCK_COMPILED: Final = "diffusers + torch.compile"
OURS: Final = "stillreel, eager"
OURS_COMPILED: Final = "stillreel, compiled"
FRUGAL: Final = "stillreel, low memory"
COMPILED: Final = (STOCK_COMPILED, OURS_COMPILED, *COMPILED_TECHNIQUES)


@dataclass(frozen=True)
class Case:
    width: int
    height: int
    frames: int
    steps: int

    def __str__(self) -> str:
        return f"{self.width} x {self.height}, {self.frames} frames, {self.steps} steps"

    def shape(self, model: Model) -> WarmShape:
        return WarmShape.of_clip(model, self.width, self.height, self.frames)

    def request(self, number: int) -> RenderRequest:
        """Return a clip to render; each has another prompt, so that no encoding is kept."""
        return RenderRequest(
            photo("rocket.jpg", short_side=self.height),
            Parameters(
                prompt=f"the rocket slowly rises, take {number}",
                negative_prompt=f"blurry, take {number}",
                resolution=None,
                width=self.width,
                height=self.height,
                fit=Fit.CROP,
                num_frames=self.frames,
                fps=8,
                num_inference_steps=self.steps,
                guidance_scale=9.0,
                seed=number,
            ),
        )


CASES: Final = {
    "cpu": (Case(192, 192, 8, 3),),
    "cuda": (Case(256, 256, 16, 50), Case(512, 512, 16, 50), Case(1280, 704, 16, 50)),
}


@dataclass(frozen=True)
class Bench:
    """How a case is measured."""

    parts: Parts
    folder: Path
    rounds: int
    ablation_rounds: int
    clips_in_a_row: int
    clock: Clock
    compiler: Compiler | None

    def report(self, case: Case) -> CaseReport:
        floor = floor_ms(case, self.parts, self.clock)
        rows = self.measure(case, floor)
        ablation = self.ablate(case, floor) if self.ablation_rounds else []
        in_a_row = self.in_a_row(case) if self.clips_in_a_row else None
        return CaseReport(str(case), rows, ablation, in_a_row, goals(case, rows, in_a_row))

    def measure(self, case: Case, floor: float) -> list[Row]:
        """Return a row for each arm that renders from picture to MP4."""
        model = ours(self.parts)
        warm = None
        arms: dict[str, Arm] = {STOCK: StockArm(stock(self.parts), model)}
        denoising = {OURS: DenoisingArm(model, Denoiser(model.unet))}
        if self.compiler is not None:
            strong = stock(self.parts)
            strong.unet.forward = self.compiler(strong.unet.forward)
            arms[STOCK_COMPILED] = StockArm(strong, model)
        arms[OURS] = OurArm(model)
        if self.compiler is not None:
            own = apart(model)
            warm = Warm(own, case.shape(own), self.compiler)
            arms[OURS_COMPILED] = OurArm(own, warm=warm)
            denoising[OURS_COMPILED] = DenoisingArm(own, Denoiser(own.unet), warm=warm)
        frugal = without_encoders(model)
        arms[FRUGAL] = OurArm(frugal, LOW)
        denoising[FRUGAL] = DenoisingArm(frugal, Denoiser(frugal.unet), LOW)
        return self._rows(case, floor, arms, denoising)

    def ablate(self, case: Case, floor: float) -> list[Row]:
        """Return a row for each technique, added to the ones above it."""
        model = ours(self.parts)
        arms: dict[str, Arm] = {STOCK: StockArm(stock(self.parts), model)}
        techniques = ablations(model, self.parts.unet, case.shape(model), self.compiler)
        return self._rows(case, floor, {**arms, **techniques}, techniques, self.ablation_rounds)

    def _rows(
        self,
        case: Case,
        floor: float,
        arms: dict[str, Arm],
        denoising: dict[str, DenoisingArm],
        rounds: int | None = None,
    ) -> list[Row]:
        firsts = {name: self._first(case, arm) for name, arm in arms.items()}
        expected = firsts[STOCK].latents
        assert expected is not None
        latents = {
            name: each.run(case.request(0), self.folder, self.clock).latents
            for name, each in denoising.items()
        }
        requests = [case.request(1 + number) for number in range(rounds or self.rounds)]
        figures = interleaved(arms, requests, self.folder, self.clock)
        rows = []
        for name, first in firsts.items():
            mine = latents.get(name, first.latents)
            assert mine is not None
            rows.append(
                row(
                    name,
                    figures,
                    against=STOCK,
                    compiled=STOCK_COMPILED,
                    floor_ms=floor,
                    steps=case.steps,
                    error=relative_error(mine, expected),
                    peak_bytes=first.peak_bytes,
                    estimated_bytes=self._estimated(name, case),
                    compile_seconds=_compile_seconds(name, first, figures[name]),
                )
            )
        return rows

    def _estimated(self, name: str, case: Case) -> int | None:
        """Return what admission reckons with, less what no count of tensors shows."""
        way = {OURS: "normal", FRUGAL: "low"}.get(name)
        if way is None or self.parts.device.type == "cpu":
            return None
        size = {"width": case.width, "height": case.height, "num_frames": case.frames}
        return needed(way, **size) - FOOTPRINT.fixed_bytes

    def _first(self, case: Case, arm: Arm) -> "First":
        """Warm and run an arm once. A recorded launch allocates only now, so this has its peak."""
        began = time.perf_counter()
        with Peak(arm.model.device) as peak:
            arm.warm()
            figures = arm.run(case.request(0), self.folder / "clip.mp4", self.clock)
        seconds = time.perf_counter() - began
        return First(peak.bytes + resident_bytes(arm.model), seconds, figures.latents)

    def in_a_row(self, case: Case) -> BackToBack:
        model = ours(self.parts)
        warm = Warm(model, case.shape(model), self.compiler) if self.compiler else None
        if warm is not None:
            warm.compile()
        requests = [case.request(100 + number) for number in range(self.clips_in_a_row)]
        return back_to_back(model, requests, self.folder, warm.compiled if warm else None)


@dataclass(frozen=True)
class First:
    peak_bytes: int
    seconds: float
    latents: torch.Tensor | None


def _compile_seconds(name: str, first: First, figures: Sequence[Figures]) -> float:
    """Return what the first run took longer than the others; 0 for an arm that is not compiled."""
    usual = statistics.median(each.seconds for each in figures)
    return max(0.0, first.seconds - usual) if name in COMPILED else 0.0


def floor_ms(case: Case, parts: Parts, clock: Clock) -> float:
    """Return what the reference's sums of one step take at this device's rate of products."""
    model = ours(parts)
    noise, conditions = drawn(model, case.request(0))
    pipeline = stock(parts)
    rows = len(conditions.text)
    latents = noise.clip.to(parts.device, parts.dtype).repeat(rows, 1, 1, 1, 1)
    step = ddim_steps(model.scheduler, case.steps)[0]
    given = conditions.latents.to(parts.dtype).repeat(rows, 1, 1, 1, 1)
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        pipeline.unet(
            latents,
            step.timestep,
            fps=torch.tensor([conditions.fps] * rows, device=parts.device),
            image_latents=given,
            image_embeddings=conditions.picture[:, 0],
            encoder_hidden_states=conditions.text,
        )
    rate = flops_per_second(parts.device, parts.dtype, clock)
    return counter.get_total_flops() / rate * 1000


def goals(case: Case, rows: Sequence[Row], in_a_row: BackToBack | None) -> list[Goal]:
    """Return what issue 5 asks of this case, beside what was measured."""
    found = {each.name: each for each in rows}
    best = found.get(OURS_COMPILED, found[OURS])
    low, reference = found[FRUGAL].peak_bytes, found[STOCK].peak_bytes
    if (case.width, case.height, case.steps) == (256, 256, 50):
        return [Goal("clips, times faster than diffusers", 2.0, best.faster_clips)]
    if (case.width, case.height, case.steps) == (512, 512, 50):
        rest = None if in_a_row is None else 100 - in_a_row.idle_percent
        return [
            Goal("clips, times faster than diffusers", 1.6, best.faster_clips),
            Goal("steps, times faster than diffusers", 1.35, best.faster_steps),
            Goal("steps, times faster than compiled diffusers", 1.15, best.faster_than_compiled),
            Goal("% of the floor", 65, best.percent_of_floor),
            Goal("% of memory saved by low memory", 35, 100 * (1 - low / reference)),
            Goal("% of the time the device is busy between clips", 97, rest),
        ]
    if case == CASES["cpu"][0]:
        return [Goal("steps, times faster than diffusers", 1.4, best.faster_steps)]
    return []


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", choices=tuple(CASES), default="cpu")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--ablation-rounds", type=int, default=5)
    parser.add_argument("--clips-in-a-row", type=int, default=20)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--clock", choices=tuple(CLOCKS), default="wall")
    parser.add_argument(
        "--compile", action="store_true", help="on the CPU too: takes many minutes"
    )
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    device = torch.device(asked.device)
    is_on_card = device.type == "cuda"
    parts = draw_parts(FULL if is_on_card else SMALL, device)
    with tempfile.TemporaryDirectory(prefix="stillreel-bench-") as name:
        bench = Bench(
            parts=parts,
            folder=Path(name),
            rounds=asked.rounds,
            ablation_rounds=asked.ablation_rounds,
            clips_in_a_row=asked.clips_in_a_row,
            clock=CLOCKS[asked.clock],
            compiler=whole_graph if is_on_card or asked.compile else None,
        )
        cases = [bench.report(case) for case in CASES[asked.device]]
    report = Report(_command(), ", ".join(_machine(parts, asked.threads, asked.clock)), cases)
    report.write(Path("outputs") / f"bench-{asked.device}")
    print(report.as_markdown())


def _command() -> str:
    return shlex.join(["python", "-m", "bench.render", *sys.argv[1:]])


def _machine(parts: Parts, threads: int, clock: str) -> Iterator[str]:
    if parts.device.type == "cuda":
        yield f"{torch.cuda.get_device_name()}, CUDA {torch.version.cuda}"
    yield f"{platform.machine()}, {threads} threads of {os.cpu_count()} cores"
    yield f"load {os.getloadavg()[1]:.1f}"
    yield f"{clock} clock"
    yield f"torch {torch.__version__}, diffusers {version('diffusers')}, {parts.dtype}"


if __name__ == "__main__":
    main()
