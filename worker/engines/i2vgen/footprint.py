"""The GPU memory of I2VGen-XL, counted on a full-size model's tensors in half precision."""

from typing import Final

from shared.engines.gpu_memory import Footprint, MemoryMode

GIB: Final = 2**30

# The UNet with 1420.5 M weights and the VAE with 83.7 M stay on the card; in low memory the
# encoders of texts (353.0 M) and of images (632.1 M) come and go.
_STAYING: Final = int(2.802 * GIB)
_ENCODERS: Final = int(1.835 * GIB)
_IMAGE_ENCODER: Final = int(1.178 * GIB)
_WHILE_ENCODING: Final = int(0.05 * GIB)

FOOTPRINT: Final = Footprint(
    # The CUDA context and the libraries' workspaces: 0.6 to 1 GiB as others report, not measured.
    fixed_bytes=GIB,
    # The counts are 1536, 531 and 331 bytes; a twentieth is added for the allocator's rounding.
    bytes_per_decoded_pixel=1620,
    ways=(
        MemoryMode(
            name="normal",
            weights_bytes=_STAYING + _ENCODERS,
            encoding_bytes=_WHILE_ENCODING,
            bytes_per_pixel_frame=560,
            decode_frames=2,
        ),
        MemoryMode(
            name="low",
            weights_bytes=_STAYING,
            encoding_bytes=_IMAGE_ENCODER + _WHILE_ENCODING,
            bytes_per_pixel_frame=350,
            decode_frames=1,
        ),
    ),
)


def needed(way: str, *, width: int, height: int, num_frames: int) -> int:
    """Return the bytes of a card that a clip needs in the mode of that name."""
    (found,) = (each for each in FOOTPRINT.ways if each.name == way)
    return FOOTPRINT.bytes_in(found, width=width, height=height, num_frames=num_frames)
