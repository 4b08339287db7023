"""Measures the speed and the error of our rendering beside diffusers' pipeline, in one process.

Run `python -m bench.render` for small random models on the CPU, or with `--device cuda` for the
real size. The arms take turns. The reference has the shim that its default call needs since
transformers 5, and no other change. The report is written to outputs/ after every round and
printed at the end. If a row fails or does not fit into the time, the reason stands in its place.
"""

import argparse
import math
import os
import platform
import shlex
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import fields, replace
from importlib.metadata import version
from pathlib import Path
from typing import Final

import torch

from bench.budget import STARTED, Budget, say
from bench.case import CASES, Case, chosen
from bench.engines import CASES as ENGINE_CASES
from bench.engines import EngineCase, MeasuredEngine
from bench.gauges import CLOCKS, flops_per_second
from bench.measure import Bench, Effort, Measured
from bench.models import FULL, SMALL, Parts, draw_parts
from bench.report import Report
from worker.engines.i2vgen.compile_cache import keep_on_disk
from worker.engines.i2vgen.compiled import whole_graph

EFFORTS: Final = {
    "cpu": Effort(rounds=10, engine_rounds=5, ablation_rounds=5, clips_in_a_row=20, half_steps=0),
    "cuda": Effort(rounds=5, engine_rounds=2, ablation_rounds=3, clips_in_a_row=20, half_steps=8),
}
FIRST_PART: Final = 0.55
"""Of nine minutes five: some clips, and two compilations of one to two minutes."""


def measure_all(
    bench: Bench, cases: Sequence[Case], engines: Sequence[EngineCase], report: Report
) -> None:
    """Measure every case and engine; `report` has the results so far.

    Time may run out, so the order is: the first case of I2VGen-XL with a share of the time, the
    engines, the second case, the ablation of the first case, the third case.
    """
    first = replace(bench, budget=bench.budget.part(FIRST_PART))
    measured = [Measured(first if case is cases[0] else bench, case) for case in cases]
    report.cases.extend(each.report for each in measured)
    measured[0].measure()
    _measure_engines(bench, engines, report)
    for each in measured[1:2]:
        each.measure()
    if bench.effort.ablation_rounds:
        measured[0].ablate(bench.budget)
    for each in measured[2:]:
        each.measure()


def _measure_engines(bench: Bench, engines: Sequence[EngineCase], report: Report) -> None:
    for case in engines:
        measured = MeasuredEngine(
            case,
            device=bench.parts.device,
            folder=bench.folder,
            clock=bench.clock,
            budget=bench.budget,
            on_found=bench.on_found,
        )
        report.engines.append(measured.report)
        measured.measure(bench.effort.engine_rounds)


def main() -> None:
    asked = _parser().parse_args()
    torch.set_num_threads(asked.threads)
    device = torch.device(asked.device)
    is_on_card = device.type == "cuda"
    stem = asked.out or Path("outputs") / f"bench-{asked.device}"
    keep_on_disk(stem.parent / "compiled", device)
    say(f"drawing a model; what is found goes to {stem}.md")
    parts = draw_parts(FULL if is_on_card else SMALL, device)
    clock = CLOCKS[asked.clock]
    report = Report(_command(), ", ".join(_machine(parts, asked.threads, asked.clock)), [])
    with tempfile.TemporaryDirectory(prefix="stillreel-bench-") as name:
        bench = Bench(
            parts=parts,
            folder=Path(name),
            effort=_effort(asked),
            clock=clock,
            compiler=whole_graph if is_on_card or asked.compile else None,
            flops_per_second=flops_per_second(device, parts.dtype, clock),
            budget=Budget(STARTED + 60 * asked.minutes, 60 * asked.arm_minutes),
            on_found=lambda: report.write(stem),
        )
        measure_all(bench, chosen(asked.device, asked.size), ENGINE_CASES[asked.device], report)
    sys.stdout.write(report.as_markdown())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", choices=tuple(CASES), default="cpu")
    parser.add_argument("--size", help="only this one, such as 512x512")
    for field in fields(Effort):
        parser.add_argument(f"--{field.name.replace('_', '-')}", type=int, help="0 leaves it out")
    parser.add_argument("--minutes", type=float, default=math.inf, help="of the whole bench")
    parser.add_argument("--arm-minutes", type=float, default=15, help="of an arm's first clip")
    parser.add_argument("--out", type=Path, help="the report's name, without .md and .json")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--clock", choices=tuple(CLOCKS), default="wall")
    parser.add_argument(
        "--compile", action="store_true", help="on the CPU too: takes many minutes"
    )
    return parser


def _effort(asked: argparse.Namespace) -> Effort:
    names = [field.name for field in fields(Effort)]
    given = {name: getattr(asked, name) for name in names if getattr(asked, name) is not None}
    return replace(EFFORTS[asked.device], **given)


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
