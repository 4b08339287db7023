"""The preview of an unfinished clip, small enough to be sent every few seconds."""

import io
from typing import Final

import PIL.Image

from worker.engines.base import Image

LONG_SIDE: Final = 256
QUALITY: Final = 60
QUICKEST: Final = 0


def encode_preview(image: Image) -> bytes:
    """Return a WebP whose long side has 256 pixels; latents are smaller, so they are enlarged."""
    height, width, _ = image.shape
    share = LONG_SIDE / max(height, width)
    size = (max(1, round(width * share)), max(1, round(height * share)))
    shown = PIL.Image.fromarray(image).resize(size, PIL.Image.Resampling.BICUBIC)
    body = io.BytesIO()
    shown.save(body, "WEBP", quality=QUALITY, method=QUICKEST)
    return body.getvalue()
