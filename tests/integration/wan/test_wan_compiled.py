"""Compiled blocks give the eager clip, serve only warmed clips, and may fail."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.support.small_models import asked, ignore_progress, rendered, small_wan
from worker.engines.diffusion import compiled_blocks
from worker.engines.wan.engine import WanEngine
from worker.engines.wan.tiny import tiny_wan

WARM = "128x64x9"
OTHER: dict[str, Any] = {"width": 64, "height": 64}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_wan(tmp_path_factory.mktemp("wan"))


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Replace the compiler by one that returns its input, and return the calls of its code."""
    made: list[str] = []
    compile_as(monkeypatch, lambda block: made.append(type(block).__name__))
    return made


def compile_as(monkeypatch: pytest.MonkeyPatch, on_call: Callable[[Any], None]) -> None:
    def compiled(block: Any, **options: Any) -> None:
        def call(*given: Any, **more: Any) -> Any:
            on_call(block)
            return block._call_impl(*given, **more)

        block._compiled_call_impl = call

    monkeypatch.setattr(torch.nn.Module, "compile", compiled)


def warmed(folder: Path, **changed: Any) -> WanEngine:
    wan = small_wan(folder, compile="on", warm_shapes=WARM, **changed)
    wan.warm(ignore_progress)
    return wan


def test_compiled_blocks_serve_the_clips_that_were_warmed_and_no_others(
    folder: Path, calls: list[str]
) -> None:
    eager, compiled = small_wan(folder), warmed(folder)

    assert [wan.plan(asked())["mode"] for wan in (eager, compiled)] == ["eager", "compiled"]
    # There are two blocks and two rows. Warming runs one step, and the clip runs three.
    assert calls == ["WanTransformerBlock"] * 4
    assert np.array_equal(rendered(compiled, asked()), rendered(eager, asked()))
    assert len(calls) == 4 + 3 * 4
    assert compiled.plan(asked(**OTHER))["mode"] == "eager"
    rendered(compiled, asked(**OTHER))
    assert len(calls) == 4 + 3 * 4
    compiled.unload()
    compiled.load("cpu", ignore_progress)
    assert compiled.plan(asked())["mode"] == "eager"


def test_a_compile_that_fails_leaves_all_clips_eager(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(block: Any) -> None:
        raise RuntimeError("no compiler here")

    compile_as(monkeypatch, fail)
    wan = warmed(folder)

    assert wan.plan(asked())["mode"] == "eager"
    assert np.array_equal(rendered(wan, asked()), rendered(small_wan(folder), asked()))


@pytest.mark.parametrize("changed", [{"compile": "off"}, {"compile": "auto"}, {"memory": "low"}])
def test_nothing_is_compiled_unasked_without_a_card_or_in_low_memory(
    folder: Path, calls: list[str], changed: dict[str, str]
) -> None:
    wan = small_wan(folder, **{"compile": "on", "warm_shapes": WARM, **changed})
    wan.warm(ignore_progress)

    assert wan.plan(asked())["mode"] == "eager"
    assert calls == []


@pytest.mark.extended
@pytest.mark.timeout(900)
def test_what_torch_makes_of_the_blocks_gives_the_eager_clip(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The traced graphs run as they are, so no C compiler is needed."""
    blocks = compiled_blocks.CompiledBlocks.__init__

    def traced(self: Any, transformers: Any, **options: Any) -> None:
        blocks(self, transformers, **options, backend="eager")

    monkeypatch.setattr(compiled_blocks.CompiledBlocks, "__init__", traced)
    wan = warmed(folder)

    assert wan.plan(asked())["mode"] == "compiled"
    difference = rendered(wan, asked()).astype(int) - rendered(small_wan(folder), asked())
    assert np.abs(difference).max() <= 1
