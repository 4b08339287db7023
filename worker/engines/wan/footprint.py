"""The GPU memory of Wan, counted on full-size models' tensors in half precision."""

from typing import Final

from shared.engines.gpu_memory import Footprint, MemoryMode

GIB: Final = 2**30

# In bfloat16: umT5's encoder has 5.68 G weights, TI2V-5B's transformer 5.00 G, each of A14B's two
# 14.29 G. The VAEs are in float32, 0.70 G and 0.13 G.
_TEXT: Final = int(10.59 * GIB)
_SMALL: Final = int(9.33 * GIB)
_LARGE: Final = int(26.62 * GIB)
_NEWER_VAE: Final = int(2.63 * GIB)
_OLDER_VAE: Final = int(0.48 * GIB)
_WHILE_ENCODING: Final = int(0.2 * GIB)
FRAMES_DECODED: Final = 4  # For one latent frame, whose neighbours the VAE remembers.


# A twentieth more than the count, as for I2VGen-XL, is for the allocator's rounding.
def _footprint(
    *, expert: int, experts: int, vae: int, per_pixel_frame: int, per_decoded_pixel: int
) -> Footprint:
    return Footprint(
        # The CUDA context and the libraries' workspaces, as for I2VGen-XL; not measured.
        fixed_bytes=GIB,
        bytes_per_decoded_pixel=per_decoded_pixel,
        ways=(
            MemoryMode(
                name="normal",
                weights_bytes=vae + _TEXT + experts * expert,
                encoding_bytes=_WHILE_ENCODING,
                bytes_per_pixel_frame=per_pixel_frame,
                decode_frames=FRAMES_DECODED,
            ),
            MemoryMode(
                name="low",
                # The text encoder and the experts take turns, and none of them is on the card
                # during the decode.
                weights_bytes=vae,
                encoding_bytes=_TEXT + _WHILE_ENCODING,
                denoising_bytes=expert,
                bytes_per_pixel_frame=per_pixel_frame,
                decode_frames=FRAMES_DECODED,
            ),
        ),
    )


ONE_EXPERT: Final = _footprint(
    expert=_SMALL, experts=1, vae=_NEWER_VAE, per_pixel_frame=62, per_decoded_pixel=5_650
)
TWO_EXPERTS: Final = _footprint(
    expert=_LARGE, experts=2, vae=_OLDER_VAE, per_pixel_frame=140, per_decoded_pixel=5_100
)

DEFAULT_BYTES: Final = ONE_EXPERT.least_bytes(width=896, height=512, num_frames=49)
