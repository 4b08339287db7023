"""The device's exceptions as this system's errors, with what to do about them."""

import gc
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import torch

from shared.engines.parameters import RenderParameters
from shared.engines.spec import Resolution
from shared.errors import DevicePoisoned, OutOfMemory

NOT_FINITE: Final = (
    "the model produced numbers that are not finite: try another seed or a lower guidance_scale;"
    " on a card without bfloat16 this can be its float16 overflowing"
)
# Not only "CUDA": a tensor left on the host is our mistake, and its message names cuda:0.
DEVICE_WORDS: Final = ("CUDA ERROR", "CUDNN", "CUBLAS", "CUSOLVER", "HIP ERROR", "MIOPEN")
MEMORY_WORDS: Final = ("OUT OF MEMORY", "ALLOC_FAILED")


@contextmanager
def device_faults(device: torch.device, too_big: str) -> Iterator[None]:
    """Turn the error of a full or broken device into one of ours; all others pass unchanged.

    Args:
        too_big: the message for a device that ran out of memory.

    Raises:
        OutOfMemory: the work did not fit.
        DevicePoisoned: the device failed in another way, and will fail until the process ends.
    """
    try:
        yield
    except RuntimeError as error:
        if is_memory(error):
            release(device, error)
            raise OutOfMemory(too_big) from None
        if _is_device(error):
            raise DevicePoisoned(
                "the GPU failed; its worker restarts and the job is tried again"
            ) from error
        raise


def release(device: torch.device, error: BaseException | None = None) -> None:
    """Give unused memory back to the device.

    Args:
        error: an error whose traceback keeps the tensors of the failed step alive.
    """
    if error is not None:
        traceback.clear_frames(error.__traceback__)
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def smaller_clip(parameters: RenderParameters) -> str:
    """Return a sentence about a clip that would take less memory than this one."""
    asked = f"{parameters.width} x {parameters.height} with {parameters.num_frames} frames"
    ways = " or ".join([*_lower_resolution(parameters), *_fewer_frames(parameters)])
    refusal = f"a clip of {asked} does not fit in this card's memory"
    return f"{refusal}; try {ways}" if ways else f"{refusal}, and it is the smallest there is"


def _lower_resolution(parameters: RenderParameters) -> Iterator[str]:
    short_side = min(parameters.width, parameters.height)
    lower = [each for each in Resolution if each.short_side < short_side]
    yield from (f"resolution {each}" for each in lower[-1:])


def _fewer_frames(parameters: RenderParameters) -> Iterator[str]:
    fewer = [count for count in (8, 16, 24) if count < parameters.num_frames]
    yield from (f"num_frames {count}" for count in fewer[-1:])


def is_memory(error: RuntimeError) -> bool:
    """Say whether the device failed because it had too little memory."""
    if isinstance(error, torch.OutOfMemoryError):
        return True
    return _is_device(error) and any(word in str(error).upper() for word in MEMORY_WORDS)


def _is_device(error: RuntimeError) -> bool:
    if isinstance(error, torch.AcceleratorError):
        return True
    return any(word in str(error).upper() for word in DEVICE_WORDS)
