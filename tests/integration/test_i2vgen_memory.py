"""Low memory gives the same frames from less: the parts come and go, the halves take turns."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch

from shared.catalogue import Asked, settle
from shared.settings import Settings
from tests.checkpoints import small_i2vgen_xl
from tests.photos import astronaut
from worker.engines.base import Frames, RenderRequest
from worker.engines.i2vgen import memory
from worker.engines.i2vgen.memory import LOW, NORMAL, choose, on_card
from worker.engines.i2vgen_xl import SPEC, I2VGenXLEngine

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
    assert [len(trip) for trip in trips] == [4, 2]  # Two texts and a picture, there and back.


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


class Most:
    """Keeps the most images that a module was given at once."""

    def __init__(self) -> None:
        self.images = 0

    def __call__(self, module: Any, given: Any, output: torch.Tensor) -> None:
        self.images = max(self.images, len(output))


def watched(module: Any) -> list[str]:
    """Return where the module is moved to, in order, from now on."""
    places: list[str] = []
    move: Callable[..., Any] = module.to

    def to(device: torch.device | str) -> Any:
        places.append(str(device))
        return move(device)

    module.to = to
    return places


def loaded(checkpoint: Path, use: Literal["auto", "normal", "low"]) -> I2VGenXLEngine:
    engine = I2VGenXLEngine(Settings(model_dir=checkpoint, memory=use, _env_file=None))
    engine.load("cpu", lambda fraction, what: None)
    return engine


def brief(prompt: str) -> RenderRequest:
    picture = astronaut()
    asked = Asked(
        prompt=prompt, width=256, height=256, num_frames=8, num_inference_steps=3, seed=1
    )
    height, width = picture.shape[:2]
    return RenderRequest(
        picture, settle(SPEC, asked, image_width=width, image_height=height, seed=1)
    )


def rendered(engine: I2VGenXLEngine, prompt: str) -> Frames:
    return np.concatenate(list(engine.render(brief(prompt), lambda step: None)))
