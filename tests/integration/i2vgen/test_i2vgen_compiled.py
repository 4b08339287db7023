"""Compiled predictions and frames equal the eager ones; one compile serves all clips of a shape.

The real compiler takes minutes here, so only `make soak` uses it (INDUCTOR=1). The other tests use
backends that run what was traced.
"""

import logging
import os
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch._dynamo

from bench.models import apart
from tests.support.arms import distance
from tests.support.checkpoints import QUICK, i2vgen_scheduler, small_unet
from tests.support.drawn import conditions, drawn, one_block, run
from worker.engines.i2vgen.compile_cache import CACHE_VARIABLE
from worker.engines.i2vgen.compiled import MOST_COMPILES, Compiled, WarmShape, lay_out
from worker.engines.i2vgen.cuda_graph import Launch, Work
from worker.engines.i2vgen.ddim import ddim_steps
from worker.engines.i2vgen.decode import levels
from worker.engines.i2vgen.denoise import Guidance
from worker.engines.i2vgen.denoiser import Constants, Denoiser
from worker.engines.i2vgen.memory import LOW
from worker.engines.i2vgen.weights import Model, prepare

# pytest adds its log collectors to every logger, and torch logs each traced call to this one.
logging.getLogger("torch.__trace").setLevel(logging.CRITICAL)
# Tracing takes 10 s of one quiet core.
pytestmark = [pytest.mark.extended, pytest.mark.long, pytest.mark.timeout(400)]

BACKEND = "inductor" if "INDUCTOR" in os.environ else "aot_eager"
BOUND = 1e-5
LOOP_BOUND = 1e-4
SHAPES = (WarmShape(8, 4, 4), WarmShape(8, 6, 4))
COLD = WarmShape(8, 4, 8)


class Traced:
    """A compiler that runs the graph that it traced, and counts the graphs it was given."""

    def __init__(self) -> None:
        self.graphs = 0

    def __call__(self, run: Callable[..., Any]) -> Callable[..., Any]:
        return torch.compile(run, fullgraph=True, dynamic=False, backend=self._take)

    def _take(self, graph: torch.fx.GraphModule, given: list[torch.Tensor]) -> Callable[..., Any]:
        self.graphs += 1
        return graph.forward


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return one_block(tmp_path_factory.mktemp("one"))


@pytest.fixture(scope="module")
def traced() -> Traced:
    return Traced()


@pytest.fixture(scope="module")
def warm(model: Model, traced: Traced) -> Compiled:
    """Return the compiled form of both shapes, on a device that overwrites its results."""
    compiled = Compiled(model, compiler=traced, record=into_one_place)
    for shape in SHAPES:
        assert compiled.warm(shape, decode_frames=2)
    return compiled


def test_one_compile_serves_every_step_scale_and_condition_of_a_shape(
    model: Model, warm: Compiled, traced: Traced
) -> None:
    before = traced.graphs
    for shape in (*SHAPES, *SHAPES):
        for seed, (scale, count) in enumerate([(9.0, 2), (3.5, 3), (1.5, 1)]):
            given, latents = drawn(shape, seed)
            error = distance(
                run(model, given, latents, scale=scale, count=count, compiled=warm),
                run(model, given, latents, scale=scale, count=count),
            )
            assert error <= LOOP_BOUND

    # Each shape has one graph for the prediction and one for the decoding.
    assert before == traced.graphs == 2 * len(SHAPES)


def test_clips_that_take_turns_each_keep_their_own_conditions(
    model: Model, warm: Compiled
) -> None:
    denoiser, steps = Denoiser(model.unet), ddim_steps(model.scheduler, 2)
    clips = [(drawn(SHAPES[0], seed), 2.0 + seed) for seed in range(2)]
    constants = [denoiser.constants(given, steps) for (given, _), _ in clips]

    for step in range(2):
        for ((_, latents), scale), each in zip(clips, constants, strict=True):
            ours = warm.predict(latents, each, step, scale)
            assert ours is not None
            eager = Guidance(denoiser, scale).predict(latents, each, step)
            assert distance(ours, eager) <= BOUND


def test_a_prediction_outlives_the_next_one(model: Model, warm: Compiled) -> None:
    (given, latents), denoiser = drawn(SHAPES[0], 1), Denoiser(model.unet)
    constants = denoiser.constants(given, ddim_steps(model.scheduler, 2))
    first = warm.predict(latents, constants, 0, 9.0)
    assert first is not None
    kept = first.clone()

    second = warm.predict(latents, constants, 1, 9.0)

    assert second is not None
    assert torch.equal(first, kept)
    assert not torch.equal(first, second)


def test_what_was_not_warmed_is_left_to_eager(model: Model, warm: Compiled) -> None:
    (given, latents), denoiser = drawn(COLD, 1), Denoiser(model.unet)
    constants = denoiser.constants(given, ddim_steps(model.scheduler, 1))
    guided, guided_latents = drawn(SHAPES[0], 1)
    unguided = replace(guided, text=guided.text[1:], image=guided.image[1:])
    one_row = denoiser.constants(unguided, ddim_steps(model.scheduler, 1))

    assert warm.predict(latents, constants, 0, 9.0) is None
    assert warm.predict(guided_latents, one_row, 0, 1.0) is None
    assert (warm.serves(SHAPES[0]), warm.serves(COLD)) == (True, False)


def test_low_memory_goes_without(model: Model, warm: Compiled, traced: Traced) -> None:
    given, latents = drawn(SHAPES[0], 1)

    low = run(model, given, latents, compiled=Refusing(), use=LOW)

    assert distance(low, run(model, given, latents, compiled=warm)) <= LOOP_BOUND


def test_compiled_frames_are_the_eager_ones(model: Model, warm: Compiled) -> None:
    latents = torch.randn((2, 4, 4, 4), generator=torch.Generator().manual_seed(3))

    ours, eager = warm.levels(model.vae, latents), levels(model.vae, latents)

    assert bool(ours.finite)
    assert torch.equal(ours.frames, eager.frames)
    assert not warm.levels(model.vae, latents * torch.nan).finite


def test_every_kind_of_block_is_in_one_graph() -> None:
    """The test fails if a graph breaks, because `fullgraph` refuses a break."""
    with torch.random.fork_rng():
        torch.manual_seed(20)
        unet = small_unet(QUICK).eval().requires_grad_(False)
    prepare(unet)
    denoiser, traced = Denoiser(unet), Traced()
    latents = torch.randn((1, 4, 8, 8, 8), generator=torch.Generator().manual_seed(1))
    constants = denoiser.constants(conditions(latents, 2), ddim_steps(i2vgen_scheduler(), 2))
    scale = torch.tensor(9.0)

    # Torch counts compiles for each function, and includes those for other tests' models.
    with torch.no_grad(), torch._dynamo.config.patch(recompile_limit=MOST_COMPILES):
        ours = traced(denoiser.guided)(
            latents, constants.times[:1], constants.latents, constants.context, scale
        )
        eager = Guidance(denoiser, 9.0).predict(latents, constants, 0)
    assert traced.graphs == 1
    assert distance(ours, eager) <= BOUND


def test_no_step_and_no_frame_asks_the_device_for_a_number(model: Model) -> None:
    """Tensors of `meta` have no numbers: code that asks for one raises. On a card it waits."""
    unet, vae = (deepcopy(each).to("meta") for each in (model.unet, model.vae))
    denoiser = Denoiser(unet)
    given, latents = drawn(SHAPES[0], 1)
    steps = ddim_steps(model.scheduler, 2)
    # A clip's times are sent from the host to the device once.
    constants = on_meta(Denoiser(model.unet).constants(given, steps))
    latents = latents.to("meta")

    launch = Launch(denoiser.guided, latents, constants, lambda work: work)
    for index, step in enumerate(steps):
        latents = step.advance(latents, launch.predict(latents, constants, index, 9.0))
        latents = step.advance(latents, Guidance(denoiser, 9.0).predict(latents, constants, index))
    made = levels(vae, latents[0].transpose(0, 1))

    assert made.frames.device.type == "meta"
    assert made.frames.shape[0] == 8


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # from inductor
def test_what_the_compiler_makes_of_the_graph_is_the_eager_prediction(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The trace passes through autograd's tracer, as on a card; inference tensors skipped it."""
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))

    def compiler(run: Callable[..., Any]) -> Callable[..., Any]:
        return torch.compile(run, fullgraph=True, dynamic=False, backend=BACKEND)

    own = apart(model)
    compiled = Compiled(own, compiler=compiler)
    if BACKEND != "inductor":
        # inductor uses kernels of the CPU, and some of these need the layout that they were traced
        # with.
        lay_out(own, by_pixel=False)
    assert compiled.warm(SHAPES[0], decode_frames=2)
    given, latents = drawn(SHAPES[0], 1)
    error = distance(run(own, given, latents, compiled=compiled), run(model, given, latents))
    assert error <= LOOP_BOUND


class Refusing:
    def predict(self, *given: Any) -> torch.Tensor | None:
        raise AssertionError("low memory asked for both rows at once")


def on_meta(constants: Constants) -> Constants:
    return Constants(
        context=tuple((keys.to("meta"), vals.to("meta")) for keys, vals in constants.context),
        latents=constants.latents.to("meta"),
        times=constants.times.to("meta"),
    )


def into_one_place(work: Work) -> Work:
    """Record as a card does: each replay reads the same memory and overwrites the same output."""
    output = work().clone()

    def replay() -> torch.Tensor:
        return output.copy_(work())

    return replay
