"""Compiled blocks give the eager clip, serve the clips that were warmed, and fail in silence."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.support.small_wan import asked, engine, ignore_progress, loaded, model_of, rendered
from worker.engines.diffusion import compiled_blocks
from worker.engines.wan.engine import WanEngine

WARM = "128x64x9"
OTHER = {"width": 64, "height": 64}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("wan")


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have blocks traced by torch's compiler, and the trace run as it is: no C compiler works."""
    blocks = compiled_blocks.CompiledBlocks.__init__

    def eager(self: Any, transformers: Any, **options: Any) -> None:
        blocks(self, transformers, **options, backend="eager")

    monkeypatch.setattr(compiled_blocks.CompiledBlocks, "__init__", eager)


def warmed(folder: Path, **changed: Any) -> WanEngine:
    wan = loaded(folder, compile="on", warm_shapes=WARM, **changed)
    wan.warm(ignore_progress)
    return wan


def test_a_warm_clip_is_compiled_and_the_eager_one_all_the_same(
    folder: Path, traced: None
) -> None:
    eager, compiled = loaded(folder), warmed(folder)

    assert [wan.plan(asked())["mode"] for wan in (eager, compiled)] == ["eager", "compiled"]
    calls = counted(compiled)
    frames = rendered(compiled, asked())
    assert calls[0] == 0  # The blocks' own calls: compiled ones go by them.
    assert np.abs(frames.astype(int) - rendered(eager, asked())).max() <= 1
    other = rendered(compiled, asked(**OTHER))
    assert calls[0] > 0
    assert compiled.plan(asked(**OTHER))["mode"] == "eager"
    assert np.array_equal(other, rendered(eager, asked(**OTHER)))


def test_a_compile_that_fails_leaves_all_clips_eager(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(graph: Any, inputs: Any) -> Any:
        raise RuntimeError("no compiler here")

    blocks = compiled_blocks.CompiledBlocks.__init__
    monkeypatch.setattr(
        compiled_blocks.CompiledBlocks,
        "__init__",
        lambda self, transformers, **options: blocks(self, transformers, backend=broken),
    )
    wan = warmed(folder)

    assert wan.plan(asked())["mode"] == "eager"
    assert np.array_equal(rendered(wan, asked()), rendered(loaded(folder), asked()))


@pytest.mark.parametrize("changed", [{"compile": "off"}, {"compile": "auto"}, {"memory": "low"}])
def test_nothing_is_compiled_unasked_without_a_card_or_in_low_memory(
    folder: Path, traced: None, changed: dict[str, str]
) -> None:
    wan = engine(folder, **{"compile": "on", "warm_shapes": WARM, **changed})
    wan.load("cpu", ignore_progress)
    wan.warm(ignore_progress)

    assert wan.plan(asked())["mode"] == "eager"


def counted(wan: WanEngine) -> list[int]:
    """Return a count of the blocks' eager calls from now on."""
    calls = [0]
    for expert in model_of(wan).experts:
        for block in expert.blocks:
            block.forward = _counting(block.forward, calls)
    return calls


def _counting(forward: Any, calls: list[int]) -> Any:
    def call(*given: Any, **options: Any) -> Any:
        calls[0] += not torch.compiler.is_compiling()
        return forward(*given, **options)

    return call
