"""Growth of a process that renders.

`python -m tests.support.growth WARM_UPS RENDERS LEAKS LEAKED_BYTES`

It prints the bytes that each of RENDERS adds, and those that each of LEAKS adds, which leave
LEAKED_BYTES.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
import psutil

from shared.engines.parameters import RequestedParameters, resolve_parameters
from shared.settings import Settings
from tests.support.checkpoints import small_i2vgen_xl
from tests.support.photos import astronaut
from worker.engines.base import RenderRequest
from worker.engines.i2vgen.engine import SPEC, I2VGenXLEngine


def slope(engine: I2VGenXLEngine, *, numbers: range, leaked_bytes: int = 0) -> float:
    """Return the bytes of resident memory that one more render adds, by least squares."""
    process, leak, resident = psutil.Process(), [], []
    for number in numbers:
        for _ in engine.render(request(number), lambda step: None):
            pass
        # Ones, because zeros would take no memory.
        leak.append(np.ones(leaked_bytes, dtype=np.uint8))
        resident.append(process.memory_info().rss)
    return float(np.polyfit(range(len(numbers)), resident, 1)[0])


def request(number: int) -> RenderRequest:
    """Return a small clip with a prompt of its own, so that every kept encoding is a new one."""
    image = np.roll(astronaut()[:128, :128], number, axis=0)
    asked = RequestedParameters(
        prompt=f"take {number}",
        width=64,
        height=64,
        num_frames=8,
        num_inference_steps=1,
        guidance_scale=1.0,
        seed=number,
    )
    return RenderRequest(
        image, resolve_parameters(SPEC, asked, image_width=128, image_height=128, seed=1)
    )


def main() -> None:
    warm_ups, renders, leaks, leaked_bytes = (int(word) for word in sys.argv[1:])
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(model_dir=small_i2vgen_xl(Path(folder)), _env_file=None)
        engine = I2VGenXLEngine(settings)
        engine.load("cpu", lambda fraction, what: None)
    slope(engine, numbers=range(warm_ups))
    ends = warm_ups + renders
    growth = slope(engine, numbers=range(warm_ups, ends))
    leaking = slope(engine, numbers=range(ends, ends + leaks), leaked_bytes=leaked_bytes)
    sys.stdout.write(f"{growth:.0f} {leaking:.0f}\n")


if __name__ == "__main__":
    main()
