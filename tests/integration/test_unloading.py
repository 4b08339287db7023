"""A model that makes room for another leaves nothing behind, counted tensor by tensor."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from shared.settings import Settings
from tests.support import small_engine
from tests.support.checkpoints import small_i2vgen_xl
from tests.support.live_memory import held_bytes
from tests.support.small_wan import asked, ignore, ignore_progress
from worker.engines.animatediff.engine import AnimateDiffEngine
from worker.engines.animatediff.tiny import tiny_animatediff
from worker.engines.base import RenderRequest
from worker.engines.i2vgen.engine import I2VGenXLEngine
from worker.engines.svd.engine import SvdEngine
from worker.engines.svd.tiny import tiny_svd
from worker.engines.wan.engine import WanEngine
from worker.engines.wan.tiny import tiny_wan

SMALL_SVD: dict[str, Any] = {
    "num_frames": 8,
    "num_inference_steps": 1,
    "width": 64,
    "guidance_scale": 3.0,
}

KEPT_FOR_GOOD = 2048
"""Numbers that a library keeps from its first use on; a model holds hundreds of kilobytes."""

MODELS: dict[str, tuple[Any, Callable[[Path], Path], Callable[[], RenderRequest]]] = {
    "i2vgen-xl": (I2VGenXLEngine, small_i2vgen_xl, small_engine.brief),
    "wan": (WanEngine, tiny_wan, asked),
    "animatediff": (AnimateDiffEngine, tiny_animatediff, lambda: asked(num_frames=8, width=64)),
    "svd": (SvdEngine, tiny_svd, lambda: asked(**SMALL_SVD)),
}


@pytest.mark.parametrize(
    "name",
    [
        "i2vgen-xl",
        *(
            pytest.param(name, marks=pytest.mark.extended)
            for name in ("wan", "svd", "animatediff")
        ),
    ],
)
def test_a_model_that_is_unloaded_gives_all_its_memory_back(name: str, tmp_path: Path) -> None:
    kind, build, request = MODELS[name]
    folder = build(tmp_path / name)
    engine = kind(Settings(model_dir=folder, _env_file=None))
    before = held_bytes()

    loaded = _load_render_unload(engine, request())

    assert loaded > before + 100_000
    assert held_bytes() <= before + KEPT_FOR_GOOD


def _load_render_unload(engine: Any, request: RenderRequest) -> int:
    """Return what was held with the model in memory, and a clip rendered."""
    engine.load("cpu", ignore_progress)
    for _ in engine.render(request, ignore):
        pass
    held = held_bytes()
    engine.unload()
    return held
