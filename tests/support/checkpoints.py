"""The small checkpoints of I2VGen-XL, for tests that share two cores."""

import torch

from worker.engines.diffusion.tiny import CLIP_PREPROCESSOR
from worker.engines.i2vgen.tiny import (
    FAITHFUL,
    QUICK,
    WIDTH,
    Shape,
    i2vgen_scheduler,
    small_unet,
    tiny_i2vgen_xl,
)

PREPROCESSOR = CLIP_PREPROCESSOR
small_i2vgen_xl = tiny_i2vgen_xl

__all__ = [
    "FAITHFUL",
    "PREPROCESSOR",
    "QUICK",
    "WIDTH",
    "Shape",
    "i2vgen_scheduler",
    "small_i2vgen_xl",
    "small_unet",
]

# With more threads each, torch's threads wait for each other, up to 20 x slower.
torch.set_num_threads(1)
