"""The values that a job is rendered with, and the GPU memory that they need."""

import secrets

from api.submit.gpu_fit import admit
from shared.engines.given_images import GivenImages
from shared.engines.parameters import RenderParameters, RequestedParameters, resolve_parameters
from shared.engines.registry import OfferedEngine
from shared.engines.spec import MAX_SEED, EngineSpec


def settle(
    offer: OfferedEngine,
    asked: RequestedParameters,
    given: GivenImages,
    *,
    image_width: int,
    image_height: int,
) -> tuple[RenderParameters, int | None]:
    """Return the values to render with, and the GPU memory that they need, if the engine says so.

    Raises:
        InvalidRequest: the engine does not take these values.
        TooLargeForGpu: no card at work has the memory.
    """
    parameters = resolve_parameters(
        offer.spec,
        asked,
        image_width=image_width,
        image_height=image_height,
        seed=secrets.randbelow(MAX_SEED + 1),
        given=given,
    )
    gpu_bytes = admit(
        offer.spec,
        asked,
        parameters,
        image_width=image_width,
        image_height=image_height,
        card_bytes=offer.card_bytes,
    )
    return parameters, gpu_bytes


def price_micros(spec: EngineSpec, parameters: RenderParameters) -> int | None:
    """Return the price of a clip, in millionths of a dollar; None if nobody is paid for it."""
    return None if spec.hosted is None else spec.hosted.price_micros(parameters.seconds)
