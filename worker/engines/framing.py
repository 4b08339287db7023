"""Fits an image to a clip's frame: a centred crop, or all of it between bars or its own blur."""

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from PIL import Image as PillowImage
from PIL import ImageFilter as PillowFilter

from shared.engines.parameters import RenderParameters
from shared.engines.spec import Fit
from worker.engines.base import Image

Box = tuple[float, float, float, float]
"""Left, top, right, bottom in source pixels; fractions are parts of a pixel."""


@dataclass(frozen=True)
class Placement:
    """Which part of the image fills which pixels of the frame.

    `box` has exactly the aspect of `width` x `height`, so nothing is stretched; `left` and `top`
    are the bars' thickness, the same on both sides.
    """

    box: Box
    width: int
    height: int
    left: int
    top: int

    def fractions(self, x: float, y: float, *, image: Image) -> tuple[float, float]:
        """Return the position of a point of the image in `box`, both as fractions, within it."""
        left, top, right, bottom = self.box
        across = (x * image.shape[1] - left) / (right - left)
        down = (y * image.shape[0] - top) / (bottom - top)
        return min(max(across, 0.0), 1.0), min(max(down, 0.0), 1.0)


def place(image_width: int, image_height: int, *, width: int, height: int, fit: Fit) -> Placement:
    """Return the placement of the image in a frame of `width` x `height` pixels."""
    left = top = 0
    if fit is not Fit.CROP:
        scale = min(width / image_width, height / image_height)
        left = _bar(width, image_width * scale)
        top = _bar(height, image_height * scale)
    inner_width, inner_height = width - 2 * left, height - 2 * top
    scale = max(inner_width / image_width, inner_height / image_height)
    x = max(0.0, (image_width - inner_width / scale) / 2)
    y = max(0.0, (image_height - inner_height / scale) / 2)
    box = (x, y, image_width - x, image_height - y)
    return Placement(box, inner_width, inner_height, left, top)


def frame_image(image: Image, *, width: int, height: int, fit: Fit) -> Image:
    """Return the image as a frame of exactly `width` x `height`, resampled with Lanczos.

    CROP cuts the longer side evenly, to a fraction of a pixel. PAD shows the whole image between
    black bars, except for less than one row or column of the frame under each bar. BLUR is PAD
    with the image's own blur in place of black.
    """
    placement = place(image.shape[1], image.shape[0], width=width, height=height, fit=fit)
    inner = PillowImage.fromarray(image).resize(
        (placement.width, placement.height), PillowImage.Resampling.LANCZOS, box=placement.box
    )
    return put(np.asarray(inner), placement, backdrop(image, width=width, height=height, fit=fit))


def framed(image: Image, asked: RenderParameters) -> Image:
    """Return the image as a frame of the clip that was asked for."""
    return frame_image(image, width=asked.width, height=asked.height, fit=asked.fit)


BLUR_SIDE: Final = 24
"""The short side of the small image whose enlargement is the blur: no detail is left in it."""


def backdrop(image: Image, *, width: int, height: int, fit: Fit) -> Image:
    """Return the frame under an image: black, or for BLUR the image filling it."""
    if fit is not Fit.BLUR:
        return np.zeros((height, width, 3), dtype=np.uint8)
    filled = place(image.shape[1], image.shape[0], width=width, height=height, fit=Fit.CROP)
    scale = min(1.0, BLUR_SIDE / min(width, height))
    small = (max(1, round(width * scale)), max(1, round(height * scale)))
    # First by averaging, so that no part of the image is skipped.
    blurred = PillowImage.fromarray(image).resize(
        small, PillowImage.Resampling.BOX, box=filled.box
    )
    blurred = blurred.filter(PillowFilter.GaussianBlur(1))
    return np.asarray(blurred.resize((width, height), PillowImage.Resampling.BICUBIC))


def put(inner: Image, placement: Placement, under: Image) -> Image:
    """Return `inner` in the place of `placement`, on a copy of the frame `under` it."""
    frame = under.copy()
    bottom, right = placement.top + placement.height, placement.left + placement.width
    frame[placement.top : bottom, placement.left : right] = inner
    return frame


def _bar(side: int, shown: float) -> int:
    """Return the thickness of one of two equal bars; at least one pixel remains between them."""
    # Rounded up, so that the part shown never grows and the image's other axis stays whole. The
    # subtraction keeps a float's last digit from costing a row.
    return min(math.ceil((side - shown) / 2 - 1e-6), (side - 1) // 2)
