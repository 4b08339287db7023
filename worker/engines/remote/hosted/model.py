"""A hosted model in our terms: plain data, one entry for each offered model."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from shared.engines.spec import Span

Size = tuple[int, int]
"""Width and height in pixels."""


@dataclass(frozen=True)
class HostedModel:
    """One model of a provider.

    `name` is the provider's name for it. `sizes` are those that it makes, one of each shape;
    `seconds` are the lengths, evenly spaced. `max_prompt` counts like the provider: in UTF-16
    units.
    """

    name: str
    title: str
    sizes: tuple[Size, ...]
    seconds: tuple[int, ...]
    fps: int = 24
    prompt_required: bool = False
    max_prompt: int = 1000
    takes_seed: bool = False
    takes_negative_prompt: bool = False
    takes_last_frame: bool = False

    @property
    def num_frames(self) -> Span:
        """Return the lengths as frames, as an engine's spec has them."""
        first, *others = (each * self.fps for each in self.seconds)
        last = others[-1] if others else first
        return Span(low=first, high=last, step=others[0] - first if others else 1)

    def size_near(self, width: int, height: int) -> Size:
        """Return the size of the model whose shape is nearest."""
        return nearest_shape(self.sizes, width, height)

    def seconds_near(self, seconds: float) -> int:
        """Return the model's shortest length that is not shorter; the longest if there is none."""
        return next((each for each in self.seconds if each >= seconds - 0.001), self.seconds[-1])


def nearest_shape(sizes: Sequence[Size], width: int, height: int) -> Size:
    aspect = math.log(width / height)
    return min(sizes, key=lambda size: abs(math.log(size[0] / size[1]) - aspect))


def cut_prompt(prompt: str, most: int) -> str:
    """Return a prompt's first UTF-16 units, at most that many, with no character cut in two."""
    return prompt.encode("utf-16-le")[: 2 * most].decode("utf-16-le", "ignore")
