"""Whether a model's large parts must take turns on a card, by its size."""

from typing import Final, Literal

import torch

SPARE_BYTES: Final = 11 * 2**30
"""Kept free for a default clip beside the weights of a model whose parts all stay on the card."""


def card_bytes(device: torch.device) -> int:
    """Return the card's memory in bytes, 0 for a CPU."""
    if device.type != "cuda":
        return 0
    return int(torch.cuda.get_device_properties(device).total_memory)


def takes_turns(
    asked: Literal["auto", "normal", "low"], device: torch.device, *, weights_bytes: int
) -> bool:
    """Say whether one large part is on the card at a time, by the setting or the card's size."""
    if asked == "auto":
        return 0 < card_bytes(device) < weights_bytes + SPARE_BYTES
    return asked == "low"
