"""Fit a picture to a clip's frame: a centred crop, or bars around the whole."""

import math
from dataclasses import dataclass

import numpy as np
from PIL import Image as PillowImage

from shared.engines.spec import Fit
from worker.engines.base import Image

Box = tuple[float, float, float, float]
"""Left, top, right, bottom in source pixels; fractions are parts of a pixel."""


@dataclass(frozen=True)
class Placement:
    """Which part of the picture fills which pixels of the frame.

    `box` has the very aspect of `width` x `height`, so nothing is stretched; `left` and `top`
    are the bars' thickness, the same on both sides.
    """

    box: Box
    width: int
    height: int
    left: int
    top: int


def place(image_width: int, image_height: int, *, width: int, height: int, fit: Fit) -> Placement:
    """Return where the picture goes in a frame of `width` x `height` pixels."""
    left = top = 0
    if fit is Fit.PAD:
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
    """Return the picture as a frame of exactly `width` x `height`, resampled with Lanczos.

    CROP cuts the longer side evenly, to a fraction of a pixel; PAD shows the whole picture
    between black bars, save for less than one row or column of the frame under each bar.
    """
    placement = place(image.shape[1], image.shape[0], width=width, height=height, fit=fit)
    inner = PillowImage.fromarray(image).resize(
        (placement.width, placement.height), PillowImage.Resampling.LANCZOS, box=placement.box
    )
    return pad(np.asarray(inner), placement, width=width, height=height)


def pad(inner: Image, placement: Placement, *, width: int, height: int) -> Image:
    """Return `inner` on a new black frame of its own, where `placement` puts it."""
    frame = np.zeros((height, width, 3), dtype=np.uint8)
    bottom, right = placement.top + placement.height, placement.left + placement.width
    frame[placement.top : bottom, placement.left : right] = inner
    return frame


def _bar(side: int, shown: float) -> int:
    """Return the thickness of one of two equal bars; at least one pixel stays between them."""
    # Rounded up, so that the part shown never grows and the picture's other axis stays whole.
    # The subtraction keeps a float's last digit from costing a row.
    return min(math.ceil((side - shown) / 2 - 1e-6), (side - 1) // 2)
