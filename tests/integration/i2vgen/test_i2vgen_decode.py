"""Chunks of frames come in order; the next one begins before the last one is used."""

from dataclasses import dataclass, field

import numpy as np
import pytest

from worker.engines.base import Frames
from worker.engines.i2vgen.decode import STARTED_AHEAD, in_order


@dataclass
class Card:
    """Decodes two frames at a time, and records its calls in order."""

    total: int
    events: list[str] = field(default_factory=list)

    def begin(self, first: int) -> "Begun":
        self.events.append(f"begin {first}")
        return Begun(self, first, min(2, self.total - first))


@dataclass
class Begun:
    card: Card
    first: int
    count: int

    def __len__(self) -> int:
        return self.count

    def frames(self) -> Frames:
        self.card.events.append(f"wait {self.first}")
        numbers = range(self.first, self.first + self.count)
        return np.array(numbers, dtype=np.uint8)[:, None, None, None]


@pytest.mark.parametrize("total", [1, 2, 5, 16])
@pytest.mark.parametrize("ahead", [1, STARTED_AHEAD])
def test_every_frame_comes_once_and_in_order(total: int, ahead: int) -> None:
    card = Card(total)
    frames = np.concatenate(list(in_order(card.begin, total, ahead=ahead)))

    assert frames.ravel().tolist() == list(range(total))


def test_the_next_chunk_is_begun_before_the_last_one_is_used() -> None:
    card = Card(6)
    for frames in in_order(card.begin, 6, ahead=STARTED_AHEAD):
        card.events.append(f"use {frames.ravel()[0]}")

    assert card.events == [
        *("begin 0", "begin 2", "wait 0", "use 0"),
        *("begin 4", "wait 2", "use 2"),
        *("wait 4", "use 4"),
    ]


def test_a_clip_that_nobody_wants_any_more_decodes_no_further() -> None:
    card = Card(16)
    chunks = in_order(card.begin, 16, ahead=STARTED_AHEAD)
    next(chunks)
    chunks.close()  # type: ignore[attr-defined]  # It is a generator.

    assert card.events == ["begin 0", "begin 2", "wait 0"]


def test_where_a_begun_chunk_is_a_finished_one_none_is_begun_ahead() -> None:
    card = Card(4)
    for _ in in_order(card.begin, 4, ahead=1):
        card.events.append("use")

    assert card.events == ["begin 0", "wait 0", "use", "begin 2", "wait 2", "use"]
