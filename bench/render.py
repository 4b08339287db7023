"""How fast and how exact our rendering is, beside diffusers' pipeline in the same process.

Run `python -m bench.render` for small random models on the CPU, or with `--device cuda` for the
real size. The arms take turns. The reference has the shim that its default call needs since
transformers 5, and nothing else.
"""

import argparse
import os
import platform
import statistics
import tempfile
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Final

import torch
from rich.console import Console
from rich.table import Table
from torch.utils.flop_counter import FlopCounterMode

from bench.ablation import ablations
from bench.arms import (
    Arm,
    DenoisingArm,
    Figures,
    OurArm,
    StockArm,
    drawn,
    interleaved,
    relative_error,
    synchronize,
)
from bench.models import (
    FULL,
    SMALL,
    Parts,
    draw_parts,
    ours,
    resident_bytes,
    stock,
    without_encoders,
)
from shared.catalogue import Fit, Parameters
from tests.photos import photo
from worker.engines.base import RenderRequest
from worker.engines.i2vgen.ddim import ddim_steps
from worker.engines.i2vgen.denoiser import Denoiser
from worker.engines.i2vgen.memory import LOW, NORMAL
from worker.engines.i2vgen.weights import Model

STOCK: Final = "diffusers"
COMPILED: Final = "diffusers + torch.compile"
OURS: Final = "stillreel"
FRUGAL: Final = "stillreel, low memory"


@dataclass(frozen=True)
class Case:
    width: int
    height: int
    frames: int
    steps: int

    def __str__(self) -> str:
        return f"{self.width} x {self.height}, {self.frames} frames, {self.steps} steps"

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
    "cpu": (Case(192, 192, 8, 2),),
    "cuda": (Case(256, 256, 16, 50), Case(512, 512, 16, 50), Case(1280, 704, 16, 50)),
}


@dataclass(frozen=True)
class Row:
    """One arm's medians over its rounds, with the ratio of the reference's to each."""

    name: str
    step_ms: float
    seconds: float
    faster_steps: float
    faster_clips: float
    error: float
    peak_bytes: int


def measure(case: Case, parts: Parts, rounds: int, folder: Path) -> list[Row]:
    """Return a row for each arm that renders from picture to MP4."""
    model = ours(parts)
    arms: dict[str, Arm] = {STOCK: StockArm(stock(parts), model)}
    if parts.device.type == "cuda":
        compiled = stock(parts)
        compiled.unet.compile(fullgraph=True, dynamic=False)
        arms[COMPILED] = StockArm(compiled, model)
    arms[OURS] = OurArm(model)
    arms[FRUGAL] = OurArm(without_encoders(model), LOW)
    peaks, errors = warmed(arms, model, case, folder)
    figures = interleaved(arms, [case.request(1 + number) for number in range(rounds)], folder)
    return [_row(name, figures, errors[name], peaks[name]) for name in arms]


def warmed(
    arms: dict[str, Arm], model: Model, case: Case, folder: Path
) -> tuple[dict[str, int], dict[str, float]]:
    """Run each arm once; return its peak of memory, weights included, and its latents' error."""
    peaks, latents = {}, {}
    for name, arm in arms.items():
        before = _allocated(model.device) - resident_bytes(arm.model)
        latents[name] = arm.run(case.request(0), folder / "clip.mp4").latents
        peaks[name] = _peak(model.device) - before
    for name, memory in ((OURS, NORMAL), (FRUGAL, LOW)):
        denoising = DenoisingArm(model, Denoiser(model.unet), memory)
        latents[name] = denoising.run(case.request(0), folder).latents
    expected = latents[STOCK]
    assert expected is not None
    errors = {
        name: relative_error(each, expected) for name, each in latents.items() if each is not None
    }
    return peaks, errors


def ablated(case: Case, parts: Parts, rounds: int, folder: Path) -> list[Row]:
    """Return a row for each technique, added to the ones above it."""
    model = ours(parts)
    arms: dict[str, Arm] = {STOCK: StockArm(stock(parts), model)}
    arms |= {
        name: DenoisingArm(model, denoiser) for name, denoiser in ablations(parts.unet).items()
    }
    first = {name: arm.run(case.request(0), folder / "clip.mp4") for name, arm in arms.items()}
    expected = first[STOCK].latents
    assert expected is not None
    figures = interleaved(arms, [case.request(1 + number) for number in range(rounds)], folder)
    return [
        _row(name, figures, relative_error(each.latents, expected), 0)
        for name, each in first.items()
        if each.latents is not None
    ]


def _row(name: str, figures: dict[str, list[Figures]], error: float, peak: int) -> Row:
    mine, theirs = figures[name], figures[STOCK]
    pairs = list(zip(theirs, mine, strict=True))
    return Row(
        name=name,
        step_ms=statistics.median(each.step_ms for each in mine),
        seconds=statistics.median(each.seconds for each in mine),
        # The median of the ratios of neighbours, which the machine's mood meets alike.
        faster_steps=statistics.median(stock.step_ms / own.step_ms for stock, own in pairs),
        faster_clips=statistics.median(stock.seconds / own.seconds for stock, own in pairs),
        error=error,
        peak_bytes=peak,
    )


def floor_ms(case: Case, parts: Parts) -> float:
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
    return counter.get_total_flops() / _flops_per_second(parts) * 1000


def _flops_per_second(parts: Parts, side: int = 8192, times: int = 20) -> float:
    """Return the rate of square products of random numbers: zeros run faster than any picture."""
    left, right = torch.randn((2, side, side), device=parts.device, dtype=parts.dtype)
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    for _ in range(3):
        left @ right
    synchronize(parts.device)
    start.record()
    for _ in range(times):
        left @ right
    end.record()
    synchronize(parts.device)
    return float(2 * side**3 * times / (start.elapsed_time(end) / 1000))


def _allocated(device: torch.device) -> int:
    """Return what is allocated now, all arms' weights, and count the peak from here."""
    if device.type != "cuda":
        return 0
    torch.cuda.reset_peak_memory_stats(device)
    return torch.cuda.memory_allocated(device)


def _peak(device: torch.device) -> int:
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else 0


def show(title: str, rows: list[Row], floor: float | None, *, clips: bool) -> None:
    table = Table(title=title)
    headings = ["arm", "ms a step", "faster"]
    headings += ["s a clip", "faster"] if clips else []
    headings += ["error"]
    headings += [] if floor is None else ["% of floor", "peak GiB"]
    for heading in headings:
        table.add_column(heading, justify="left" if heading == "arm" else "right")
    for row in rows:
        cells = [row.name, f"{row.step_ms:.0f}", f"{row.faster_steps:.2f} x"]
        cells += [f"{row.seconds:.2f}", f"{row.faster_clips:.2f} x"] if clips else []
        cells += [f"{row.error:.1e}"]
        if floor is not None:
            cells += [f"{100 * floor / row.step_ms:.0f}", f"{row.peak_bytes / 2**30:.2f}"]
        table.add_row(*cells)
    Console(width=110).print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--ablation-rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    device = torch.device(asked.device)
    machine = torch.cuda.get_device_name() if device.type == "cuda" else platform.machine()
    where = f"{machine}, {asked.threads} threads of {os.cpu_count()} cores"
    parts = draw_parts(FULL if device.type == "cuda" else SMALL, device)
    versions = f"torch {torch.__version__}, diffusers {version('diffusers')}, {parts.dtype}"
    Console(width=110).print(f"{where}; {versions}")
    with tempfile.TemporaryDirectory(prefix="stillreel-bench-") as name:
        for case in CASES[asked.device]:
            floor = floor_ms(case, parts) if device.type == "cuda" else None
            rows = measure(case, parts, asked.rounds, Path(name))
            show(str(case), rows, floor, clips=True)
            if asked.ablation_rounds:
                rows = ablated(case, parts, asked.ablation_rounds, Path(name))
                show(f"{case}: technique by technique", rows, None, clips=False)


if __name__ == "__main__":
    main()
