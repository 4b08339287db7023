"""What a render keeps on the card at once: as much as fits, or as little as possible."""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, Literal, Protocol, TypeVar

import torch

from shared.engines.parameters import RenderParameters
from worker.engines.diffusion.faults import is_memory, release
from worker.engines.diffusion.memory import card_bytes
from worker.engines.i2vgen.footprint import needed

T = TypeVar("T")

log = logging.getLogger(__name__)

SMALL_CARD_BYTES: Final = 10 * 2**30
"""Smaller cards keep the encoders off: the default clip needs 7.8 GiB with them on the card."""


@dataclass(frozen=True)
class MemoryUse:
    """How a render divides its work; the frames are the same in each."""

    name: Literal["normal", "low"]
    decode_frames: int
    one_row_at_a_time: bool
    encoders_stay: bool


# 0.38 GiB of the card for each frame of a 512 x 512 chunk.
NORMAL: Final = MemoryUse("normal", decode_frames=2, one_row_at_a_time=False, encoders_stay=True)
LOW: Final = MemoryUse("low", decode_frames=1, one_row_at_a_time=True, encoders_stay=False)


def choose(asked: Literal["auto", "normal", "low"], device: torch.device) -> MemoryUse:
    """Return the use that was asked for, or with `auto` the one for the card's size."""
    if asked == "auto":
        return LOW if 0 < card_bytes(device) < SMALL_CARD_BYTES else NORMAL
    return LOW if asked == "low" else NORMAL


def for_clip(parameters: RenderParameters, device: torch.device) -> MemoryUse:
    """Return the use for one clip: low if the card is small, or too small for this clip."""
    use = choose("auto", device)
    quick = needed(
        "normal",
        width=parameters.width,
        height=parameters.height,
        num_frames=parameters.num_frames,
    )
    return LOW if 0 < card_bytes(device) < quick else use


@contextmanager
def on_card(encoder: Any, device: torch.device, *, stays: bool) -> Iterator[None]:
    """Keep the encoder on the device inside the block, and also afterwards if it stays there."""
    encoder.to(device)
    try:
        yield
    finally:
        if not stays:
            encoder.to("cpu")


class Recordings(Protocol):
    def let_go(self) -> None:
        """Free the memory of recorded launches; they are recorded again when next used."""


class Room:
    """The memory of one clip on the card: as its `use` says, until the card turns out too full.

    Then the clip continues in low memory, which gives the same frames, to its end.
    """

    def __init__(
        self,
        use: MemoryUse,
        device: torch.device,
        encoders: Sequence[Any] = (),
        recordings: Recordings | None = None,
    ) -> None:
        """In low memory `encoders` go to the host and `recordings` are freed, of any clip."""
        self.use = use
        self._device = device
        self._encoders = encoders
        self._recordings = recordings
        if not use.encoders_stay:
            self._make()

    def within(self, work: Callable[[MemoryUse], T]) -> T:
        """Return the result of the work; if it runs out of memory, run it once more in low memory.

        Raises:
            torch.OutOfMemoryError: there is too little memory even then.
        """
        try:
            return work(self.use)
        except RuntimeError as error:
            if not is_memory(error) or self.use == LOW:
                raise
            release(self._device, error)
        self.use = LOW
        self._make()
        log.warning("went_on_in_low_memory")
        return work(self.use)

    def _make(self) -> None:
        if self._recordings is not None:
            self._recordings.let_go()
        away = [each for each in self._encoders if each.device.type != "cpu"]
        for encoder in away:
            encoder.to("cpu")
        if away:
            release(self._device)
