"""Low memory gives the same frames: parts move on and off the card, and the rows take turns."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import numpy as np
import pytest
import torch

from shared.engines.parameters import RequestedParameters, resolve_parameters
from shared.errors import OutOfMemory
from tests.support import small_engine
from tests.support.checkpoints import small_i2vgen_xl
from tests.support.photos import astronaut
from worker.engines.base import Frames, RenderRequest
from worker.engines.i2vgen import memory
from worker.engines.i2vgen.engine import SPEC, I2VGenXLEngine
from worker.engines.i2vgen.memory import LOW, NORMAL, Room, choose, on_card

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_i2vgen_xl(tmp_path_factory.mktemp("quick"))


def test_low_memory_gives_the_same_frames_to_a_level(checkpoint: Path) -> None:
    normal, low = loaded(checkpoint, "normal"), loaded(checkpoint, "low")

    whole, parts = rendered(normal, "a cat"), rendered(low, "a cat")

    assert np.abs(whole.astype(np.int16) - parts).max() <= 1
    assert normal.plan(brief("a cat"))["memory"] == "normal"
    assert low.plan(brief("a cat"))["memory"] == "low"


def test_low_memory_computes_one_row_and_one_frame_at_once(checkpoint: Path) -> None:
    engine = loaded(checkpoint, "low")
    assert engine.model is not None
    rows, frames = Most(), Most()
    engine.model.unet.conv_norm_out.register_forward_hook(rows)
    engine.model.vae.decoder.conv_in.register_forward_hook(frames)

    rendered(engine, "a cat")

    assert (rows.images, frames.images) == (8, 1)


def test_low_memory_sends_each_encoder_back_to_the_host(checkpoint: Path) -> None:
    engine = loaded(checkpoint, "low")
    assert engine.model is not None
    trips = [watched(part) for part in (engine.model.text_encoder, engine.model.image_encoder)]

    rendered(engine, "a cat")

    assert [trip[-1] for trip in trips] == ["cpu", "cpu"]
    # There are two texts and one image, each a move to the device and back.
    assert [len(trip) for trip in trips] == [4, 2]


def test_what_was_encoded_before_brings_no_encoder_back(checkpoint: Path) -> None:
    engine = loaded(checkpoint, "low")
    assert engine.model is not None
    first = rendered(engine, "a cat")
    trips = [watched(part) for part in (engine.model.text_encoder, engine.model.image_encoder)]

    again = rendered(engine, "a cat")

    assert trips == [[], []]
    assert np.array_equal(first, again)
    rendered(engine, "a dog")
    assert [len(trip) for trip in trips] == [2, 0]


def test_an_encoder_goes_back_when_its_work_fails() -> None:
    encoder = torch.nn.Linear(1, 1)
    trips = watched(encoder)

    with pytest.raises(torch.OutOfMemoryError), on_card(encoder, CPU, stays=False):
        raise torch.OutOfMemoryError

    assert trips == ["cpu", "cpu"]


@pytest.mark.parametrize(("gib", "use"), [(0, NORMAL), (8, LOW), (9.9, LOW), (12, NORMAL)])
def test_auto_goes_by_the_cards_size(
    monkeypatch: pytest.MonkeyPatch, gib: float, use: memory.MemoryUse
) -> None:
    monkeypatch.setattr(memory, "card_bytes", lambda device: int(gib * 2**30))

    assert choose("auto", CPU) is use
    assert choose("low", CPU) is LOW
    assert choose("normal", CPU) is NORMAL


@pytest.mark.parametrize(
    "part",
    [
        "text_encoder.embeddings",
        pytest.param("image_encoder.vision_model.embeddings", marks=pytest.mark.extended),
        pytest.param("vae.encoder", marks=pytest.mark.extended),
        "unet",
    ],
)
def test_a_clip_that_runs_out_of_memory_goes_on_with_the_frames_of_low_memory(
    checkpoint: Path, part: str
) -> None:
    engine = loaded(checkpoint, "normal")
    fails = FullCard(at=1)
    module(engine, part).register_forward_pre_hook(fails)

    frames = rendered(engine, "a cat")

    assert fails.times == 1
    assert np.array_equal(frames, rendered(loaded(checkpoint, "low"), "a cat"))


@pytest.mark.parametrize(
    ("part", "at"),
    [
        ("unet", 2),
        pytest.param("vae.decoder", 1, marks=pytest.mark.extended),
        ("vae.decoder", 2),
    ],
)
def test_what_was_computed_before_the_card_was_full_is_kept(
    checkpoint: Path, part: str, at: int
) -> None:
    engine, whole = loaded(checkpoint, "normal"), loaded(checkpoint, "normal")
    calls, fails = Calls(), FullCard(at=at)
    module(engine, "unet").register_forward_hook(calls)
    module(engine, part).register_forward_pre_hook(fails)

    frames = rendered(engine, "a cat")

    assert fails.times == 1
    assert np.abs(frames.astype(np.int16) - rendered(whole, "a cat")).max() <= 1
    # The two rows of a step are one call in normal memory and two calls in low memory. No row is
    # computed twice.
    assert calls.images == ([16, 8, 8, 8, 8] if part == "unet" else [16, 16, 16])


def test_a_clip_that_runs_out_of_memory_twice_fails_and_says_what_to_try(checkpoint: Path) -> None:
    engine = loaded(checkpoint, "normal")
    fails = FullCard(at=1, until=2)
    hook = module(engine, "unet").register_forward_pre_hook(fails)

    with pytest.raises(OutOfMemory, match="256 x 256 with 8 frames does not fit"):
        rendered(engine, "a cat")

    assert fails.times == 2
    hook.remove()
    assert np.array_equal(
        rendered(engine, "a cat"), rendered(loaded(checkpoint, "normal"), "a cat")
    )


@pytest.mark.parametrize("error", [ValueError("no"), RuntimeError("CUDA error: misaligned")])
def test_another_error_is_not_tried_again(error: Exception) -> None:
    tried = []

    def work(use: memory.MemoryUse) -> None:
        tried.append(use)
        raise error

    with pytest.raises(type(error)):
        Room(NORMAL, CPU).within(work)

    assert tried == [NORMAL]


def test_an_encoder_that_stayed_on_the_card_makes_room_when_it_is_full() -> None:
    placed, tried = Placed("cuda"), []

    def work(use: memory.MemoryUse) -> str:
        tried.append((use.name, placed.device.type))
        if len(tried) == 1:
            raise torch.OutOfMemoryError
        return "done"

    assert Room(NORMAL, CPU, [placed]).within(work) == "done"
    assert tried == [("normal", "cuda"), ("low", "cpu")]


def test_a_clip_in_low_memory_begins_without_encoders_on_the_card() -> None:
    placed = Placed("cuda")

    Room(LOW, CPU, [placed])

    assert placed.device.type == "cpu"


class FullCard:
    """Runs out of memory from a module's n-th call to a later one."""

    def __init__(self, *, at: int, until: int | None = None) -> None:
        self._range = range(at, (until or at) + 1)
        self._calls = self.times = 0

    def __call__(self, module: Any, given: Any) -> None:
        self._calls += 1
        if self._calls in self._range:
            self.times += 1
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")


class Calls:
    """Records how many images each call of a module returned."""

    def __init__(self) -> None:
        self.images: list[int] = []

    def __call__(self, module: Any, given: Any, output: torch.Tensor) -> None:
        self.images.append(len(output))


class Placed(SimpleNamespace):
    """An object that is on a device, and can be moved."""

    def __init__(self, device: str) -> None:
        super().__init__(device=torch.device(device))

    def to(self, device: str) -> None:
        self.device = torch.device(device)


class Most:
    """Records the most images that a module was given at once."""

    def __init__(self) -> None:
        self.images = 0

    def __call__(self, module: Any, given: Any, output: torch.Tensor) -> None:
        self.images = max(self.images, len(output))


def watched(module: Any) -> list[str]:
    """Return a list of the devices that the module is moved to from now on."""
    places: list[str] = []
    move: Callable[..., Any] = module.to

    def to(device: torch.device | str) -> Any:
        places.append(str(device))
        return move(device)

    module.to = to
    return places


def module(engine: I2VGenXLEngine, path: str) -> Any:
    """Return a part by its dotted name; for a UNet its last layer, because each call runs that."""
    part, _, name = path.partition(".")
    return getattr(engine.model, part).get_submodule("conv_out" if part == "unet" else name)


def loaded(checkpoint: Path, use: Literal["auto", "normal", "low"]) -> I2VGenXLEngine:
    return small_engine.loaded(checkpoint, memory=use)


def brief(prompt: str) -> RenderRequest:
    image = astronaut()
    asked = RequestedParameters(
        prompt=prompt, width=256, height=256, num_frames=8, num_inference_steps=3, seed=1
    )
    height, width = image.shape[:2]
    return RenderRequest(
        image, resolve_parameters(SPEC, asked, image_width=width, image_height=height, seed=1)
    )


def rendered(engine: I2VGenXLEngine, prompt: str) -> Frames:
    return small_engine.rendered(engine, brief(prompt))
