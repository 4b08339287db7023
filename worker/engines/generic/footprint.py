"""The least GPU memory of a folder: its weights, counted from the files' headers."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from shared.engines.gpu_memory import Footprint, MemoryMode
from worker.engines.generic.folder import Folder

GIB: Final = 2**30
BYTES_A_WEIGHT: Final = 2  # In half precision, as on every card.
BYTES_A_DECODED_PIXEL: Final = 6  # Three numbers for each pixel; all frames are decoded at once.
MOST_HEADER_BYTES: Final = 100_000_000  # The same limit as in safetensors itself.


def footprint_of(folder: Folder, *, most_frames: int) -> Footprint:
    """Return the least memory that a clip of this folder needs.

    The memory for computing is not known and not counted. So a clip is refused beforehand only if
    the card could not even hold the weights, one large part at a time.
    """
    sizes = {name: _weight_bytes(folder.path / name) for name in folder.parts}
    large = [size for name, size in sizes.items() if not name.startswith("vae")]
    staying = sum(sizes.values()) - sum(large)
    decoded = {"bytes_per_pixel_frame": 0, "decode_frames": most_frames}
    return Footprint(
        fixed_bytes=GIB,  # As for I2VGen-XL; not measured.
        bytes_per_decoded_pixel=BYTES_A_DECODED_PIXEL,
        ways=(
            MemoryMode(
                name="normal", weights_bytes=sum(sizes.values()), encoding_bytes=0, **decoded
            ),
            MemoryMode(
                name="low",
                weights_bytes=staying,
                encoding_bytes=max(large, default=0),
                **decoded,
            ),
        ),
    )


def _weight_bytes(part: Path) -> int:
    """Return the bytes of a part's weights on a card; a weight that is there twice counts once."""
    counts: dict[str, int] = {}
    for file in part.glob("*.safetensors"):
        counts.update(_counted(file))
    return BYTES_A_WEIGHT * sum(counts.values())


def _counted(file: Path) -> Mapping[str, int]:
    """Return how many numbers each weight of the file has; nothing if the file is broken."""
    try:
        with file.open("rb") as opened:
            length = int.from_bytes(opened.read(8), "little")
            header = json.loads(opened.read(min(length, MOST_HEADER_BYTES)))
        weights = {name: each for name, each in header.items() if name != "__metadata__"}
        return {name: math.prod(each["shape"]) for name, each in weights.items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return {}
