"""An image as a data URI small enough for a provider: no bucket of ours has to be public."""

import base64
import io
from collections.abc import Iterator
from typing import Final

import PIL.Image

from worker.engines.base import Image, RenderRequest
from worker.engines.framing import frame_image
from worker.engines.remote.errors import RequestRefused
from worker.engines.remote.hosted.model import HostedModel

JPEG_QUALITIES: Final = (95, 90, 80, 70)


def images(
    model: HostedModel, request: RenderRequest, *, max_chars: int
) -> tuple[str, str | None]:
    """Return the first image, and the last one if the job has it, as the model gets them."""
    asked = request.parameters
    width, height = model.size_near(asked.width, asked.height)

    def fitted(image: Image) -> str:
        framed = frame_image(image, width=width, height=height, fit=asked.fit)
        return data_uri(framed, max_chars=max_chars)

    last = request.last_frame
    return fitted(request.image), None if last is None else fitted(last)


def data_uri(image: Image, *, max_chars: int) -> str:
    """Return the image as PNG or, if that is too long, as the best JPEG that is not.

    Raises:
        RequestRefused: not even the smallest fits.
    """
    for kind, body in _encodings(PIL.Image.fromarray(image)):
        uri = f"data:image/{kind};base64,{base64.b64encode(body).decode()}"
        if len(uri) <= max_chars:
            return uri
    raise RequestRefused(
        f"the image takes more than the {max_chars} characters that the provider allows;"
        " ask for a smaller clip"
    )


def _encodings(image: PIL.Image.Image) -> Iterator[tuple[str, bytes]]:
    yield (
        "png",
        _encoded(image, "PNG", compress_level=1),
    )  # 0.1 s at 720p, where the default takes 0.35.
    for quality in JPEG_QUALITIES:
        yield "jpeg", _encoded(image, "JPEG", quality=quality, subsampling=0)


def _encoded(image: PIL.Image.Image, name: str, **options: int) -> bytes:
    body = io.BytesIO()
    image.save(body, name, **options)
    return body.getvalue()
