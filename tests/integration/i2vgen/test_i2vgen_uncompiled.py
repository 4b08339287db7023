"""If a compile fails or strays, its shape stays eager; the layout changes no number."""

import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch._dynamo

from bench.models import apart
from tests.support.arms import distance
from tests.support.drawn import drawn, one_block, run
from worker.engines.i2vgen.compiled import Compiled, WarmShape, lay_out
from worker.engines.i2vgen.flat_conv import FlatConv3d
from worker.engines.i2vgen.weights import Model

LOOP_BOUND = 1e-4
SHAPE = WarmShape(8, 4, 4)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return one_block(tmp_path_factory.mktemp("one"))


@pytest.fixture
def model(whole: Model) -> Model:
    """Return a copy of the model, because compiling changes the layout of its weights."""
    return apart(whole)


@pytest.mark.parametrize(
    "fault",
    [
        RuntimeError("InductorError: no C compiler found"),
        pytest.param(FileNotFoundError("cc"), marks=pytest.mark.extended),
        pytest.param(torch.OutOfMemoryError("CUDA out of memory"), marks=pytest.mark.extended),
    ],
)
def test_a_compiler_that_fails_leaves_the_shape_to_eager(
    model: Model, fault: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(run: Callable[..., Any]) -> Callable[..., Any]:
        def fail(*_: Any) -> Any:
            raise fault

        return fail

    compiled = Compiled(model, compiler=broken)

    assert not compiled.warm(SHAPE, decode_frames=2)
    given, latents = drawn(SHAPE, 1)
    assert torch.equal(run(model, given, latents, compiled=compiled), run(model, given, latents))
    (line,) = caplog.messages
    assert line.startswith("not_compiled_and_eager: 8 frames of 4 x 4 latents: ")


def test_the_ninth_compile_is_not_refused_in_whichever_thread_it_comes(model: Model) -> None:
    limits: list[int] = []

    def noting(run: Callable[..., Any]) -> Callable[..., Any]:
        def note(*given: Any) -> Any:
            limits.append(torch._dynamo.config.recompile_limit)
            return run(*given)

        return note

    compiled = Compiled(model, compiler=noting)
    thread = threading.Thread(target=lambda: compiled.warm(SHAPE, decode_frames=2))
    thread.start()
    thread.join()

    assert compiled.serves(SHAPE)
    assert min(limits) == 64


def test_a_compile_that_strays_is_not_used(model: Model, caplog: pytest.LogCaptureFixture) -> None:
    def wrong(run: Callable[..., Any]) -> Callable[..., Any]:
        def stray(*given: Any) -> Any:
            right = run(*given)
            return right if isinstance(right, tuple) else right * 1.2

        return stray

    compiled = Compiled(model, compiler=wrong)

    assert not compiled.warm(SHAPE, decode_frames=2)
    assert "strays from eager by 2.0e-01" in caplog.text


def test_the_layout_of_weights_changes_no_number(whole: Model, model: Model) -> None:
    lay_out(model, by_pixel=True)
    given, latents = drawn(SHAPE, 2)

    flat = next(each for each in model.unet.modules() if isinstance(each, FlatConv3d))
    assert flat.weight.squeeze(4).is_contiguous(memory_format=torch.channels_last)
    assert model.unet.conv_out.weight.is_contiguous(memory_format=torch.channels_last)
    assert all(
        torch.equal(ours, theirs)
        for ours, theirs in zip(model.unet.parameters(), whole.unet.parameters(), strict=True)
    )
    assert distance(run(model, given, latents), run(whole, given, latents)) <= LOOP_BOUND
