"""A bench over a model so small that all of its arms run in seconds."""

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from bench.budget import Budget
from bench.case import Case
from bench.measure import Bench, Effort
from bench.models import Parts, Scale

# Of 32 groups each would normalise two numbers if an image is one pixel, which magnifies any
# error.
TINY: Final = Scale((64, 64, 64, 64), (32, 32, 32, 32), (32, 2, 2), (32, 2, 2), norm_groups=8)
CASE: Final = Case(width=64, height=64, frames=4, steps=2)


def small_bench(parts: Parts, folder: Path) -> Bench:
    return Bench(
        parts=parts,
        folder=folder,
        effort=Effort(
            rounds=1, engine_rounds=1, ablation_rounds=1, clips_in_a_row=2, half_steps=2
        ),
        clock=time.perf_counter,
        compiler=as_it_is,
        flops_per_second=1e10,
        budget=Budget(ends=math.inf, arm_seconds=300),
        on_found=lambda: None,
    )


def as_it_is(run: Callable[..., Any]) -> Callable[..., Any]:
    return run
