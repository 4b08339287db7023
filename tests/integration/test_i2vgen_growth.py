"""A worker that has rendered a hundred clips holds no more memory than one at its start."""

import numpy as np
import psutil
import pytest

from shared.catalogue import Asked, settle
from shared.settings import Settings
from tests.checkpoints import small_i2vgen_xl
from tests.photos import astronaut
from worker.engines.base import RenderRequest
from worker.engines.i2vgen_xl import SPEC, I2VGenXLEngine

BOUND = 100_000  # bytes a render


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> I2VGenXLEngine:
    folder = small_i2vgen_xl(tmp_path_factory.mktemp("quick"))
    engine = I2VGenXLEngine(Settings(model_dir=folder, _env_file=None))
    engine.load("cpu", lambda fraction, what: None)
    return engine


def test_memory_does_not_grow_over_a_hundred_renders(engine: I2VGenXLEngine) -> None:
    assert slope(engine, warm_ups=20, renders=100) <= BOUND


def test_growth_of_twice_the_bound_is_seen(engine: I2VGenXLEngine) -> None:
    assert slope(engine, warm_ups=10, renders=40, leaked_bytes=2 * BOUND) > BOUND


def slope(engine: I2VGenXLEngine, *, warm_ups: int, renders: int, leaked_bytes: int = 0) -> float:
    """Return the bytes of resident memory that one more render takes, by least squares."""
    process, leak, resident = psutil.Process(), [], []
    for number in range(warm_ups + renders):
        for _ in engine.render(request(number), lambda step: None):
            pass
        leak.append(np.ones(leaked_bytes, dtype=np.uint8))  # Ones: zeros would take no memory.
        if number >= warm_ups:
            resident.append(process.memory_info().rss)
    return float(np.polyfit(range(renders), resident, 1)[0])


def request(number: int) -> RenderRequest:
    """Return a small clip with words of its own, so that every kept encoding is a new one."""
    picture = np.roll(astronaut()[:128, :128], number, axis=0)
    asked = Asked(
        prompt=f"take {number}",
        width=64,
        height=64,
        num_frames=8,
        num_inference_steps=1,
        guidance_scale=1.0,
        seed=number,
    )
    return RenderRequest(picture, settle(SPEC, asked, image_width=128, image_height=128, seed=1))
