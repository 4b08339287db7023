"""A small image of a clip's latents while they are denoised.

A linear map turns latents into colours. It is fitted on the request's own image: its latents, and
the image shrunk to their size. So it works for every VAE without a table.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from PIL import Image as PillowImage

from worker.engines.base import Image

PER_CLIP: Final = 10
"""About how many previews a clip has: each is some small kernels and a copy of 12 kB."""

RIDGE: Final = 1e-3
LEAST_SPREAD: Final = 1e-6
MOST_PIXELS_A_SIDE: Final = 512
"""An image is shrunk to this before a VAE encodes it only for the fit."""

Encode = Callable[[torch.Tensor], torch.Tensor]
"""From pixels (1, 3, height, width), -1 to 1, float32, to latents (channels, h, w)."""

OneFrame = Callable[[torch.Tensor], torch.Tensor | None]
"""From a clip's latents to those of one frame, (channels, h, w); None where they have none."""


def middle_of_times(latents: torch.Tensor) -> torch.Tensor:
    """Return the middle frame of latents (1, channels, frames, h, w), which shows motion."""
    return latents[0, :, latents.shape[2] // 2]


def middle_of_frames(latents: torch.Tensor) -> torch.Tensor:
    """Return one frame of latents (1, frames, channels, h, w)."""
    return latents[0, latents.shape[1] // 2]


@dataclass(frozen=True)
class LatentMap:
    """From latents (channels, h, w) to colours, on the latents' device.

    `mean` and `spread` are the image's, (channels, 1, 1). `weights` (3, channels) are applied to
    latents minus the mean and divided by the spread; `bias` (3, 1, 1) is the image's mean colour.
    """

    mean: torch.Tensor
    spread: torch.Tensor
    weights: torch.Tensor
    bias: torch.Tensor

    def image(self, latents: torch.Tensor, *, done: float) -> torch.Tensor:
        """Return uint8 RGB (h, w, 3), on the device.

        Noise spreads wider than an image: it is shown with the image's contrast around the image's
        mean. The less noise there is, the more the latents' own brightness counts.

        Args:
            done: the share of the steps that is done, 0 to 1.
        """
        given = latents.float()
        mean = given.mean(dim=(1, 2), keepdim=True)
        spread = given.std(dim=(1, 2), keepdim=True)
        clear = (self.spread / spread.clamp(min=LEAST_SPREAD)).clamp(max=1)
        own = clear * done
        centre = self.mean * own + mean * (1 - own)
        levels = (given - centre) * clear / self.spread
        colours = torch.einsum("rc,chw->rhw", self.weights, levels) + self.bias
        shown = colours.nan_to_num(0).mul(127.5).add(127.5).round().clamp(0, 255)
        return shown.to(torch.uint8).permute(1, 2, 0).contiguous()


@torch.no_grad()
def fit(latents: torch.Tensor, image: Image) -> LatentMap:
    """Return the map that makes the image from its latents, by ridge regression.

    Args:
        latents: those of the image, (channels, h, w), on the device.
        image: the image itself, of any size and with the latents' shape.
    """
    given = latents.float()
    _, height, width = given.shape
    mean = given.mean(dim=(1, 2), keepdim=True)
    spread = given.std(dim=(1, 2), keepdim=True).clamp(min=LEAST_SPREAD)
    levels = ((given - mean) / spread).flatten(1)
    colours = _shrunk(image, width=width, height=height).to(given.device).flatten(1)
    bias = colours.mean(dim=1, keepdim=True)
    products = torch.cat([levels, colours - bias]) @ levels.T / levels.shape[1]
    # A few numbers, solved on the host in double precision: the only wait for the device.
    of_latents, of_colours = products.double().nan_to_num(0).cpu().split([len(levels), 3])
    ridge = RIDGE * torch.eye(len(levels), dtype=torch.float64)
    weights = torch.linalg.solve(of_latents + ridge, of_colours.T).T
    return LatentMap(
        mean, spread, weights.to(given.device, torch.float32), bias[..., None].nan_to_num(0)
    )


@torch.no_grad()
def fit_by_encoding(
    encode: Encode, frame: Image, *, multiple: int, device: torch.device
) -> LatentMap:
    """Return the map for a pipeline that does not return the latents of its image.

    Args:
        frame: the framed image; it is shrunk to sides that are multiples of `multiple`.
    """
    height, width, _ = frame.shape
    share = min(1.0, MOST_PIXELS_A_SIDE / max(height, width))
    sides = {"width": width, "height": height}
    sides = {
        name: max(1, round(side * share / multiple)) * multiple for name, side in sides.items()
    }
    small = _shrunk(frame, **sides)
    return fit(encode(small[None].to(device)), frame)


class Previews:
    """The previews of one clip, made on the device beside its steps and read once those end."""

    def __init__(self, latent_map: LatentMap, *, steps: int, one_frame: OneFrame) -> None:
        self._map = latent_map
        self._one_frame = one_frame
        self._steps = steps
        self._every = max(2, -(-steps // PER_CLIP))
        self._made: dict[int, torch.Tensor] = {}

    def _wants(self, step: int) -> bool:
        """Say whether this step, counted from 1, is shown."""
        return step % self._every == 0 or step == self._steps

    @torch.no_grad()
    def note(self, step: int, latents: torch.Tensor) -> None:
        """Make a preview of the clip's latents after this step, in the pipeline's own form."""
        frame = self._one_frame(latents) if self._wants(step) else None
        if frame is not None:
            self._made[step] = self._map.image(frame, done=step / self._steps)

    def of(self, step: int) -> Image | None:
        """Return the preview of a step finished on the device, once; None if there is none."""
        made = self._made.pop(step, None)
        if made is None:
            return None
        image: Image = made.cpu().numpy()
        return image


def _shrunk(image: Image, *, width: int, height: int) -> torch.Tensor:
    """Return the image as (3, height, width), -1 to 1, each pixel the mean of its area."""
    small = PillowImage.fromarray(image).resize((width, height), PillowImage.Resampling.BOX)
    pixels = torch.from_numpy(np.asarray(small, dtype=np.float32)).permute(2, 0, 1)
    return pixels / 127.5 - 1
