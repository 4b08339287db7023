"""The small checkpoints of I2VGen-XL, for tests that share two cores."""

import torch

__all__ = [
    *("FAITHFUL", "PREPROCESSOR", "QUICK", "WIDTH", "Shape"),
    *("i2vgen_scheduler", "small_i2vgen_xl", "small_unet"),
]

# With more threads each, torch's wait for one another, up to 20 x slower.
torch.set_num_threads(1)
