"""The names of the arms in the tables."""

from typing import Final

STOCK: Final = "diffusers"
STOCK_COMPILED: Final = "diffusers + torch.compile"
OURS: Final = "stillreel, eager"
OURS_COMPILED: Final = "stillreel, compiled"
FRUGAL: Final = "stillreel, low memory"
COMPILED_TECHNIQUES: Final = ("+ torch.compile", "+ one launch a step")
COMPILED: Final = (STOCK_COMPILED, OURS_COMPILED, *COMPILED_TECHNIQUES)
