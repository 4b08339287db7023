"""A model that makes room for another leaves nothing behind, counted tensor by tensor."""

from pathlib import Path
from typing import Any

import pytest

from tests.support.live_memory import held_bytes
from tests.support.small_models import FAMILIES, loaded, rendered
from worker.engines.base import RenderRequest
from worker.engines.diffusion.engine import DiffusionEngine

KEPT_FOR_GOOD = 2048
"""Bytes that a library keeps after its first use. A model has hundreds of kilobytes."""


@pytest.mark.extended
@pytest.mark.parametrize("name", FAMILIES)
def test_a_model_that_is_unloaded_gives_all_its_memory_back(name: str, tmp_path: Path) -> None:
    family = FAMILIES[name]
    engine = family.engine(family.build(tmp_path / "small"))
    before = held_bytes()

    held = _load_render_unload(engine, family.brief())

    assert held > before + 100_000
    assert held_bytes() <= before + KEPT_FOR_GOOD


def _load_render_unload(engine: DiffusionEngine[Any], request: RenderRequest) -> int:
    """Return the bytes in use with the model loaded and a clip rendered."""
    rendered(loaded(engine), request)
    held = held_bytes()
    engine.unload()
    return held
