"""Recent texts and images are not encoded again, and only a limited number are kept."""

from collections.abc import Callable

import numpy as np
import torch

from worker.engines.diffusion.encodings import Encodings


def test_the_same_text_is_encoded_once() -> None:
    kept, encoder = Encodings(), Encoder()

    first = kept.of_text("a cat blinks", encoder)

    assert kept.of_text("a cat blinks", encoder) is first
    assert kept.of_text("a cat blinks ", encoder) is not first
    assert encoder.calls == 2


def test_the_same_pixels_are_encoded_once_and_another_shape_of_them_is_another_image() -> None:
    kept, encoder = Encodings(), Encoder()
    image = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)

    first = kept.of_image(image, encoder)

    assert kept.of_image(image.copy(), encoder) is first
    assert kept.of_image(image.reshape(4, 2, 3), encoder) is not first
    assert kept.of_image(image + 1, encoder) is not first


def test_the_least_lately_used_goes_first() -> None:
    kept, encoder = Encodings(entries=2), Encoder()
    first, second = (kept.of_text(text, encoder) for text in "ab")
    kept.of_text("a", encoder)

    kept.of_text("c", encoder)

    assert kept.of_text("a", encoder) is first
    assert kept.of_text("b", encoder) is not second


def test_what_could_not_be_encoded_is_not_kept() -> None:
    kept, encoder = Encodings(), Encoder()

    def stopped() -> torch.Tensor:
        raise torch.OutOfMemoryError

    failed: Callable[[], torch.Tensor] = stopped
    try:
        kept.of_text("a", failed)
    except torch.OutOfMemoryError:
        kept.of_text("a", encoder)

    assert encoder.calls == 1


class Encoder:
    def __init__(self) -> None:
        self.calls = 0

    def __call__(self) -> torch.Tensor:
        self.calls += 1
        return torch.tensor([self.calls])
