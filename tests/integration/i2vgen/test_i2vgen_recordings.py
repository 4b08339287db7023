"""If a card fills up, it frees the memory of recorded launches, and they are recorded again.

Recording needs a card. The stand-in uses memory for as long as a recording exists.
"""

import weakref
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
import torch

from shared.engines.parameters import RequestedParameters, resolve_parameters
from tests.support.checkpoints import small_i2vgen_xl
from tests.support.photos import astronaut
from tests.support.small_engine import loaded, module, rendered
from worker.engines.base import Frames, RenderRequest
from worker.engines.i2vgen import compiled, memory
from worker.engines.i2vgen.compile_cache import CACHE_VARIABLE
from worker.engines.i2vgen.cuda_graph import Recorder, Work
from worker.engines.i2vgen.engine import SPEC, I2VGenXLEngine

pytestmark = pytest.mark.extended

WARM: Final = {"width": 256, "height": 256}
SMALLER: Final = {"width": 192, "height": 256}
LARGER: Final = {"width": 320, "height": 256}


class Card:
    """Records into memory of its own, which exists as long as the recording."""

    def __init__(self) -> None:
        self.recorded = 0
        self.is_full = False
        self._held: list[weakref.ref[Any]] = []

    def recorder(self, device: torch.device) -> Recorder:
        return self._record

    def held(self) -> int:
        """Return how many launches and recordings still exist."""
        return sum(each() is not None for each in self._held)

    def _record(self, work: Work) -> Work:
        pool = work().clone()
        if self.is_full:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        self.recorded += 1
        launch = getattr(work, "__self__", None)
        assert launch is not None
        self._held += [weakref.ref(launch), weakref.ref(pool)]

        def replay() -> torch.Tensor:
            return pool.copy_(work())

        return replay


class FullCard:
    """Is out of memory at a module's n-th call, and records what exists at the next call."""

    def __init__(self, card: Card, at: int) -> None:
        self.calls = 0
        self.held: int | None = None
        self._card = card
        self._at = at

    def __call__(self, module: Any, given: Any) -> None:
        self.calls += 1
        if self.calls == self._at:
            assert self._card.held() > 0
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        if self.calls == self._at + 1:
            self.held = self._card.held()


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_i2vgen_xl(tmp_path_factory.mktemp("quick"))


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> Card:
    """Return the card that every engine of the test records on."""
    found = Card()
    monkeypatch.setattr(compiled, "recorder", found.recorder)
    monkeypatch.setattr(compiled, "whole_graph", lambda run: run)
    monkeypatch.setenv(CACHE_VARIABLE, "/elsewhere")
    return found


@pytest.mark.parametrize(
    ("part", "at"),
    [
        ("text_encoder.embeddings", 1),
        ("image_encoder.vision_model.embeddings", 1),
        ("vae.encoder", 1),
        ("unet.conv_out", 2),
        ("vae.decoder", 1),
    ],
)
def test_a_clip_that_runs_out_of_memory_goes_on_without_the_recordings(
    checkpoint: Path, card: Card, part: str, at: int
) -> None:
    engine = warmed(checkpoint)
    whole = rendered(engine, brief(prompt="a cat"))
    assert card.held() == 2
    full = FullCard(card, at)
    hook = module(engine, part).register_forward_pre_hook(full)

    frames = rendered(engine, other_image(prompt="a dog"))

    hook.remove()
    assert full.held == 0
    assert np.abs(frames.astype(np.int16) - eager(checkpoint, "a dog")).max() <= 1
    assert (card.recorded, card.held()) == (1, 0)
    assert np.array_equal(rendered(engine, brief(prompt="a cat")), whole)
    assert (card.recorded, card.held()) == (2, 2)


def test_an_eager_clip_that_runs_out_of_memory_has_the_recordings_too(
    checkpoint: Path, card: Card
) -> None:
    engine = warmed(checkpoint)
    full = FullCard(card, at=2)
    module(engine, "unet.conv_out").register_forward_pre_hook(full)

    rendered(engine, brief(**SMALLER))

    assert full.held == 0


def test_a_clip_in_low_memory_begins_without_recordings(
    checkpoint: Path, card: Card, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = warmed(checkpoint, memory="auto")
    assert card.held() == 2
    monkeypatch.setattr(memory, "card_bytes", lambda device: 5 * 2**30)

    frames = engine.render(brief(), lambda step: None)
    next(frames)

    assert card.held() == 0


def test_a_recording_that_does_not_fit_is_not_tried_again(
    checkpoint: Path, card: Card, caplog: pytest.LogCaptureFixture
) -> None:
    engine = warmed(checkpoint)
    whole = rendered(engine, brief())
    rendered(engine, brief(**LARGER))
    assert card.held() == 0

    card.is_full = True
    frames = rendered(engine, brief())
    card.is_full = False

    assert np.abs(frames.astype(np.int16) - whole).max() <= 1
    assert "no_room_to_record_and_eager: 8 frames of 4 x 4 latents" in caplog.messages
    assert engine.plan(brief())["mode"] == "eager"
    assert np.abs(rendered(engine, brief()).astype(np.int16) - whole).max() <= 1
    assert card.recorded == 1


def test_recordings_go_with_the_model(checkpoint: Path, card: Card) -> None:
    engine = warmed(checkpoint)
    rendered(engine, brief())
    assert card.held() == 2

    engine.unload()

    assert card.held() == 0


def warmed(checkpoint: Path, **settings: Any) -> I2VGenXLEngine:
    given = {"compile": "on", "memory": "normal", **settings}
    engine = loaded(checkpoint, warm_shapes="256x256x8", **given)
    engine.warm(lambda fraction, what: None)
    return engine


def eager(checkpoint: Path, prompt: str) -> Frames:
    return rendered(loaded(checkpoint, memory="normal"), other_image(prompt=prompt))


def brief(**changed: Any) -> RenderRequest:
    image = astronaut()
    asked = RequestedParameters(**{**WARM, "num_frames": 8, "num_inference_steps": 3, **changed})
    height, width = image.shape[:2]
    return RenderRequest(
        image, resolve_parameters(SPEC, asked, image_width=width, image_height=height, seed=1)
    )


def other_image(**changed: Any) -> RenderRequest:
    """Return a request with an image that has no kept encoding."""
    request = brief(**changed)
    return RenderRequest(request.image[::-1].copy(), request.parameters)
