"""A picture as a data URI, small enough for a provider: no bucket of ours has to be public."""

import base64
import io
from collections.abc import Iterator
from typing import Final

import PIL.Image

from shared.errors import InvalidImage
from worker.engines.base import Image

JPEG_QUALITIES: Final = (95, 90, 80, 70)


def data_uri(image: Image, *, max_chars: int) -> str:
    """Return the picture as PNG, or where that is too long as the best JPEG that is not.

    Raises:
        InvalidImage: not even the smallest fits.
    """
    for kind, body in _encodings(PIL.Image.fromarray(image)):
        uri = f"data:image/{kind};base64,{base64.b64encode(body).decode()}"
        if len(uri) <= max_chars:
            return uri
    raise InvalidImage(
        f"the picture takes more than the {max_chars} characters that the provider allows;"
        " ask for a smaller clip",
        param="image",
    )


def _encodings(picture: PIL.Image.Image) -> Iterator[tuple[str, bytes]]:
    yield "png", _encoded(picture, "PNG")
    for quality in JPEG_QUALITIES:
        yield "jpeg", _encoded(picture, "JPEG", quality=quality, subsampling=0)


def _encoded(picture: PIL.Image.Image, name: str, **options: int) -> bytes:
    body = io.BytesIO()
    picture.save(body, name, **options)
    return body.getvalue()
