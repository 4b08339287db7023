"""The GPU memory of AnimateDiff, counted on a full-size model's tensors in half precision."""

from typing import Final

from shared.engines.gpu_memory import Footprint, MemoryMode

GIB: Final = 2**30
DECODED_AT_ONCE: Final = 2

# The UNet with its motion modules has 1312.7 M weights, SparseCtrl 496.7 M, the text encoder 123.1
# M, the VAE 83.7 M; all of them stay on the card.
_WEIGHTS: Final = int(3.76 * GIB)

FOOTPRINT: Final = Footprint(
    fixed_bytes=GIB,  # As for I2VGen-XL; not measured.
    bytes_per_decoded_pixel=1620,  # The same VAE as I2VGen-XL's.
    ways=(
        MemoryMode(
            name="normal",
            weights_bytes=_WEIGHTS,
            encoding_bytes=int(0.1 * GIB),
            bytes_per_pixel_frame=700,  # The count is 665; a twentieth is added for rounding.
            decode_frames=DECODED_AT_ONCE,
        ),
    ),
)
