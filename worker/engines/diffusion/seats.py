"""Which of a model's large parts are on the card: all of them, or only the one at work."""

from collections.abc import Sequence
from typing import Any

import torch


class Seats:
    """Parts that take turns on the device; with `one_at_a_time` the others are on the host.

    A part moves to the card by itself before each of its forward passes. So a pipeline that does
    not know about this swaps its experts in the middle of a clip.
    """

    def __init__(self, parts: Sequence[Any], device: torch.device, *, one_at_a_time: bool) -> None:
        self._parts = parts
        self._device = device
        self.one_at_a_time = one_at_a_time
        self._seated: Any = None
        for part in parts:
            part.register_forward_pre_hook(self._sit_down)
            if not one_at_a_time:
                part.to(device)

    def _sit_down(self, part: Any, inputs: Any) -> None:
        if not self.one_at_a_time or part is self._seated:
            return
        self.clear(but=part)
        part.to(self._device)
        self._seated = part

    def clear(self, but: Any = None) -> None:
        """If parts take turns, move all to the host, so that other tensors have the memory."""
        if not self.one_at_a_time:
            return
        self._seated = None  # If a move fails, the next pass makes all moves again.
        for part in self._parts:
            if part is not but:
                part.to("cpu")
