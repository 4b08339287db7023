"""The GPU memory of SVD, counted on a full-size model's tensors in half precision."""

from typing import Final

from shared.engines.gpu_memory import Footprint, MemoryMode

GIB: Final = 2**30
LOW_MEMORY_CHUNK: Final = 4
ALL: Final = 25

# The UNet has 1524.6 M weights, the VAE 97.7 M, the image encoder 632.1 M; all of them stay on the
# card.
_WEIGHTS: Final = int(4.2 * GIB)


def _way(name: str, decode_frames: int) -> MemoryMode:
    return MemoryMode.model_validate(
        {
            "name": name,
            "weights_bytes": _WEIGHTS,
            "encoding_bytes": int(0.4 * GIB),
            "bytes_per_pixel_frame": 600,
            "decode_frames": decode_frames,
        }
    )


FOOTPRINT: Final = Footprint(
    fixed_bytes=GIB,  # As for I2VGen-XL; not measured.
    bytes_per_decoded_pixel=2150,
    ways=(_way("normal", ALL), _way("low", LOW_MEMORY_CHUNK)),
)
