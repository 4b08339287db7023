"""The rewritten UNet gives the same results as diffusers' UNet in fewer operations."""

from copy import deepcopy
from typing import Any

import pytest
import torch

from tests.support.checkpoints import FAITHFUL, QUICK, WIDTH, Shape, small_unet
from worker.engines.i2vgen.conditions import Conditions
from worker.engines.i2vgen.context import attend_to_kept_context
from worker.engines.i2vgen.ddim import DdimStep
from worker.engines.i2vgen.denoiser import Constants, Denoiser
from worker.engines.i2vgen.flat_conv import FlatConv3d, flatten_temporal_convolutions
from worker.engines.i2vgen.weights import prepare

# The bound is for one step. The tests that break something below require 20 times as much.
BOUND = 1e-5
FRAMES = 8
STEPS = (DdimStep(901, 1.0, 0.0), DdimStep(451, 1.0, 0.0))


@pytest.fixture(scope="module")
def stock() -> Any:
    """Return a UNet of the real blocks, as diffusers runs it."""
    return fresh(FAITHFUL)


@pytest.fixture(scope="module")
def prepared(stock: Any) -> Any:
    unet = deepcopy(stock)
    prepare(unet)
    return unet


@pytest.mark.parametrize("rows", [1, 2])
@pytest.mark.parametrize("size", [(8, 8), (6, 10)])
@pytest.mark.parametrize("step", [0, 1])
def test_a_prediction_is_the_references(
    stock: Any, prepared: Any, rows: int, size: tuple[int, int], step: int
) -> None:
    given, latents = conditions(rows, size), draw((1, 4, FRAMES, *size))

    assert distance(ours(prepared, given, latents, step), theirs(stock, given, latents, step)) <= (
        BOUND
    )


def test_a_prediction_is_the_references_where_the_first_block_does_not_attend() -> None:
    stock = fresh(QUICK)
    prepared = deepcopy(stock)
    prepare(prepared)
    given, latents = conditions(2, (8, 8)), draw((1, 4, FRAMES, 8, 8))

    assert distance(ours(prepared, given, latents), theirs(stock, given, latents)) <= BOUND


def test_each_row_alone_is_that_row_of_both(prepared: Any) -> None:
    given, latents = conditions(2, (8, 8)), draw((1, 4, FRAMES, 8, 8))
    denoiser = Denoiser(prepared)
    constants = denoiser.constants(given, STEPS)
    both = denoiser.predict(latents, constants, 0)

    for row in range(2):
        alone = denoiser.predict(latents, constants.row(row), 0)
        assert distance(alone, both[row : row + 1]) <= BOUND


def test_another_layers_keys_do_not_go_unseen(prepared: Any) -> None:
    given, latents = conditions(2, (8, 8)), draw((1, 4, FRAMES, 8, 8))
    broken = deepcopy(prepared)
    processors = [p for p in broken.attn_processors.values() if hasattr(p, "layer")]
    processors[0].layer, processors[1].layer = processors[1].layer, processors[0].layer

    assert distance(ours(broken, given, latents), ours(prepared, given, latents)) > 20 * BOUND


def test_the_rows_part_for_good(prepared: Any) -> None:
    given, latents = conditions(2, (8, 8)), draw((1, 4, FRAMES, 8, 8))

    unguided, guided = ours(prepared, given, latents)

    assert distance(unguided, guided) > 20 * BOUND


def test_the_context_is_projected_once_a_clip(prepared: Any) -> None:
    projected = Counter()
    hooks = [
        module.to_k.register_forward_hook(projected)
        for name, module in prepared.named_modules()
        if name.endswith("attn2") and hasattr(module.processor, "layer")
    ]
    given, latents = conditions(2, (8, 8)), draw((1, 4, FRAMES, 8, 8))
    denoiser = Denoiser(prepared)
    constants = denoiser.constants(given, STEPS)
    for step in range(len(STEPS)):
        denoiser.predict(latents, constants, step)
    for hook in hooks:
        hook.remove()

    assert projected.images == [2] * len(hooks)
    assert len(hooks) == 10


def test_both_rows_are_one_until_the_first_look_at_the_context(prepared: Any) -> None:
    first = prepared.down_blocks[0]
    layer = first.attentions[0].transformer_blocks[0]
    shared, parted = Counter(), Counter()
    hooks = [
        *(part.register_forward_hook(shared) for part in (first.resnets[0], layer.norm1)),
        *(part.register_forward_hook(parted) for part in (layer.norm2, first.downsamplers[0])),
    ]
    ours(prepared, conditions(2, (8, 8)), draw((1, 4, FRAMES, 8, 8)))
    for hook in hooks:
        hook.remove()

    assert shared.images == [FRAMES, FRAMES]
    assert parted.images == [2 * FRAMES, 2 * FRAMES]


def test_every_temporal_convolution_runs_flat_and_gives_the_same(stock: Any) -> None:
    flat = deepcopy(stock)
    flatten_temporal_convolutions(flat)
    layer, expected = (unet.mid_block.temp_convs[0] for unet in (flat, stock))
    images = draw((2 * FRAMES, layer.in_dim, 3, 5))

    kinds = {type(module) for module in flat.modules() if isinstance(module, torch.nn.Conv3d)}
    assert kinds == {FlatConv3d}
    with torch.inference_mode():
        ours, theirs = layer(images, num_frames=FRAMES), expected(images, num_frames=FRAMES)
        assert distance(ours, theirs) <= 1e-6
        assert distance(ours, images) > 20 * BOUND


def test_preparing_keeps_every_weight_and_its_name(stock: Any, prepared: Any) -> None:
    before, after = stock.state_dict(), prepared.state_dict()

    assert list(before) == list(after)
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_only_looks_at_the_context_are_replaced(stock: Any) -> None:
    unet = deepcopy(stock)
    attend_to_kept_context(unet)

    replaced = {name for name, p in unet.attn_processors.items() if hasattr(p, "layer")}
    assert len(replaced) == 10
    assert not any("temp_attentions" in name or "transformer_in" in name for name in replaced)


class Counter:
    """Records how many images, or rows, each call of a module returned."""

    def __init__(self) -> None:
        self.images: list[int] = []

    def __call__(self, module: Any, given: Any, output: Any) -> None:
        self.images.append(len(output))


def fresh(shape: Shape) -> Any:
    with torch.random.fork_rng():
        torch.manual_seed(20)
        return small_unet(shape).eval().requires_grad_(False)


def draw(shape: tuple[int, ...]) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


def conditions(rows: int, size: tuple[int, int]) -> Conditions:
    return Conditions(
        text=draw((rows, 77, WIDTH)),
        image=draw((rows, 1, WIDTH)),
        latents=draw((1, 4, FRAMES, *size)),
        fps=12,
    )


def ours(unet: Any, given: Conditions, latents: torch.Tensor, step: int = 0) -> torch.Tensor:
    denoiser = Denoiser(unet)
    constants: Constants = denoiser.constants(given, STEPS)
    return denoiser.predict(latents, constants, step)


@torch.inference_mode()
def theirs(unet: Any, given: Conditions, latents: torch.Tensor, step: int = 0) -> torch.Tensor:
    rows = len(given.text)
    sample: torch.Tensor = unet(
        latents.repeat(rows, 1, 1, 1, 1),
        STEPS[step].timestep,
        fps=torch.tensor([given.fps] * rows),
        image_latents=given.latents.repeat(rows, 1, 1, 1, 1),
        image_embeddings=given.image[:, 0],
        encoder_hidden_states=given.text,
    ).sample
    return sample


def distance(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    """Return the relative L2 error."""
    return float((ours - theirs).norm() / theirs.norm())
