"""Encodings of texts and images, kept for clips that use them again."""

import hashlib
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

import torch

from worker.engines.base import Image

ENTRIES: Final = 32
"""Some 5 MB on the card: 154 kB for a text, 2 kB for an image."""


class Encodings:
    """The last used encodings, by text or by the image's hash; the oldest are dropped first."""

    def __init__(self, entries: int = ENTRIES) -> None:
        self._entries = entries
        self._kept: OrderedDict[tuple[str, str], torch.Tensor] = OrderedDict()

    def of_text(self, text: str, encode: Callable[[], torch.Tensor]) -> torch.Tensor:
        return self._get(("text", text), encode)

    def of_image(self, image: Image, encode: Callable[[], torch.Tensor]) -> torch.Tensor:
        digest = hashlib.sha256(repr(image.shape).encode())
        digest.update(image.tobytes())
        return self._get(("image", digest.hexdigest()), encode)

    def _get(self, key: tuple[str, str], encode: Callable[[], torch.Tensor]) -> torch.Tensor:
        kept = self._kept.pop(key, None)
        if kept is None:
            kept = encode()
        self._kept[key] = kept
        while len(self._kept) > self._entries:
            self._kept.popitem(last=False)
        return kept
