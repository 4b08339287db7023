"""The engine compiles the shapes in WARM_SHAPES, says which clips were compiled, and may fail.

Torch's compiler takes minutes here. A compiler that returns its input replaces it.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch._inductor.runtime.cache_dir_utils import default_cache_dir

from shared.engines.parameters import RequestedParameters, resolve_parameters
from shared.errors import LeaseLost
from shared.settings import Settings
from tests.support.checkpoints import small_i2vgen_xl
from tests.support.photos import astronaut
from worker.engines.base import Frames, RenderRequest
from worker.engines.i2vgen import compiled
from worker.engines.i2vgen.compile_cache import CACHE_VARIABLE, keep_on_disk
from worker.engines.i2vgen.cuda_graph import Work
from worker.engines.i2vgen.engine import SPEC, I2VGenXLEngine

pytestmark = pytest.mark.extended

Run = Callable[..., Any]
CPU = torch.device("cpu")


class Compiler:
    """Returns its input, and counts the calls of it."""

    def __init__(self, fault: Exception | None = None) -> None:
        self.calls: list[str] = []
        self.fault = fault

    def __call__(self, run: Run) -> Run:
        def called(*given: Any) -> Any:
            if self.fault is not None:
                raise self.fault
            self.calls.append(run.__name__)
            return run(*given)

        return called


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_i2vgen_xl(tmp_path_factory.mktemp("quick"))


@pytest.fixture
def compiler(monkeypatch: pytest.MonkeyPatch) -> Compiler:
    """Return the compiler that every engine of the test uses."""
    found = Compiler()
    monkeypatch.setattr(compiled, "whole_graph", found)
    monkeypatch.setenv(CACHE_VARIABLE, "/elsewhere")
    return found


def test_a_warmed_clip_is_compiled_and_its_frames_are_the_same(
    checkpoint: Path, compiler: Compiler
) -> None:
    eager, warm = loaded(checkpoint, compile="off"), loaded(checkpoint, compile="on")
    compiler.calls.clear()

    ours, theirs = rendered(warm, brief()), rendered(eager, brief())

    assert warm.plan(brief())["mode"] == "compiled"
    assert eager.plan(brief())["mode"] == "eager"
    assert compiler.calls == ["guided"] * 3 + ["levels"] * 4
    assert np.abs(ours.astype(np.int16) - theirs).max() <= 1


@pytest.mark.parametrize(
    "changed",
    [
        {"width": 320},
        {"num_frames": 9},
        {"guidance_scale": 1.0},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_any_other_clip_is_rendered_eagerly_and_says_so(
    checkpoint: Path, compiler: Compiler, changed: dict[str, Any]
) -> None:
    engine = loaded(checkpoint, compile="on")
    compiler.calls.clear()
    request = brief(**changed)

    assert engine.plan(request)["mode"] == "eager"
    assert len(rendered(engine, request)) == request.parameters.num_frames
    assert "guided" not in compiler.calls


def test_a_larger_clip_has_the_recordings_memory_and_a_warmed_one_records_again(
    checkpoint: Path, compiler: Compiler, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded: list[Work] = []

    def record(work: Work) -> Work:
        recorded.append(work)
        return work

    monkeypatch.setattr(compiled, "recorder", lambda device: record)
    engine = loaded(checkpoint, compile="on")
    first = rendered(engine, brief())
    rendered(engine, brief(num_inference_steps=1))
    assert len(recorded) == 1

    rendered(engine, brief(width=192))
    assert np.array_equal(first, rendered(engine, brief()))
    assert len(recorded) == 1
    rendered(engine, brief(width=320))
    assert np.array_equal(first, rendered(engine, brief()))
    assert len(recorded) == 2


@pytest.mark.parametrize(
    "settings",
    [{"compile": "auto"}, {"compile": "off"}, {"compile": "on", "memory": "low"}],
    ids=["auto on a CPU", "off", "low memory"],
)
def test_nothing_is_compiled_unasked(
    checkpoint: Path, compiler: Compiler, settings: dict[str, Any]
) -> None:
    engine = loaded(checkpoint, **settings)

    assert compiler.calls == []
    assert engine.plan(brief())["mode"] == "eager"


def test_a_compiler_that_fails_leaves_the_engine_as_it_was_loaded(
    checkpoint: Path, compiler: Compiler, caplog: pytest.LogCaptureFixture
) -> None:
    compiler.fault = RuntimeError("InductorError: no C compiler\n\nSet this\nor that")
    engine = loaded(checkpoint, compile="on")

    assert engine.plan(brief())["mode"] == "eager"
    assert len(rendered(engine, brief())) == 8
    assert [line for line in caplog.messages if "not_compiled" in line] == [
        "not_compiled_and_eager: 8 frames of 4 x 4 latents: InductorError: no C compiler Set this"
    ]
    assert engine.model is not None
    assert all(weight.is_contiguous() for weight in engine.model.unet.parameters())


def test_a_shape_that_is_not_the_engines_is_left_out(
    checkpoint: Path, compiler: Compiler, caplog: pytest.LogCaptureFixture
) -> None:
    engine = loaded(checkpoint, compile="on", warm_shapes="250x256x8,256x256x64,256x256x8")

    assert engine.plan(brief())["mode"] == "compiled"
    assert [line for line in caplog.messages if "warm_shape" in line] == [
        "warm_shape_is_not_ours: 250x256x8",
        "warm_shape_is_not_ours: 256x256x64",
    ]


def test_a_stop_between_two_shapes_keeps_the_first(checkpoint: Path, compiler: Compiler) -> None:
    engine = loaded(checkpoint, compile="off", warm_shapes="256x256x8,320x256x8", warm=False)
    engine._settings = engine._settings.model_copy(update={"compile": "on"})
    asked: list[str] = []

    def stop_at_the_second(fraction: float, what: str) -> None:
        asked.append(what)
        if len(asked) == 2:
            raise LeaseLost("taken")

    with pytest.raises(LeaseLost):
        engine.warm(stop_at_the_second)
    assert asked == ["compiling 256 x 256, 8 frames", "compiling 320 x 256, 8 frames"]
    first = len(compiler.calls)

    engine.warm(ignore)

    assert len(compiler.calls) == 2 * first
    assert engine.plan(brief(width=320))["mode"] == "compiled"


def test_what_was_unloaded_is_not_compiled_any_more(checkpoint: Path, compiler: Compiler) -> None:
    engine = loaded(checkpoint, compile="on")
    engine.unload()
    assert engine.plan(brief())["mode"] == "eager"

    compiler.calls.clear()
    engine.load("cpu", ignore)
    engine.warm(ignore)
    # The old compiled code belonged to the old weights.
    assert compiler.calls == ["levels", "guided"]

    assert engine.plan(brief())["mode"] == "compiled"
    assert len(rendered(engine, brief())) == 8


@pytest.mark.parametrize("default", [None, default_cache_dir()])
def test_compiled_code_is_kept_by_torch_and_device(
    default: str | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, default or "")
    if default is None:
        monkeypatch.delenv(CACHE_VARIABLE)

    place = keep_on_disk(tmp_path / "compiled", CPU)

    assert place == tmp_path / "compiled" / f"torch-{torch.__version__}-cpu"
    assert os.environ[CACHE_VARIABLE] == str(place)


def test_a_place_for_compiled_code_that_was_set_stays(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, "/compiled")

    assert keep_on_disk(tmp_path, CPU) is None
    assert os.environ[CACHE_VARIABLE] == "/compiled"


def loaded(checkpoint: Path, *, warm: bool = True, **settings: Any) -> I2VGenXLEngine:
    given = {"warm_shapes": "256x256x8", "memory": "normal", **settings}
    engine = I2VGenXLEngine(Settings(model_dir=checkpoint, _env_file=None, **given))
    engine.load("cpu", ignore)
    if warm:
        engine.warm(ignore)
    return engine


def brief(**changed: Any) -> RenderRequest:
    image = astronaut()
    asked = {"width": 256, "height": 256, "num_frames": 8, "num_inference_steps": 3, **changed}
    height, width = image.shape[:2]
    return RenderRequest(
        image,
        resolve_parameters(
            SPEC, RequestedParameters(**asked), image_width=width, image_height=height, seed=1
        ),
    )


def rendered(engine: I2VGenXLEngine, request: RenderRequest) -> Frames:
    return np.concatenate(list(engine.render(request, lambda step: None)))


def ignore(fraction: float, what: str) -> None:
    """Report nothing."""
