"""The GPU memory that a clip needs, estimated before it is accepted: arithmetic, no I/O."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class MemoryMode(BaseModel):
    """One way to divide a clip's work on the card, in bytes; each way gives the same frames.

    `weights_bytes` are on the card throughout. While the texts and the image are encoded,
    `encoding_bytes` are added. While the clip is denoised, `denoising_bytes` and
    `bytes_per_pixel_frame` for each pixel of each frame are added. While it is decoded,
    `Footprint.bytes_per_decoded_pixel` for each of `decode_frames` is added.
    """

    model_config = ConfigDict(frozen=True)

    name: Literal["normal", "low"]
    weights_bytes: int
    encoding_bytes: int
    denoising_bytes: int = 0
    bytes_per_pixel_frame: int
    decode_frames: int


class Footprint(BaseModel):
    """An engine's memory as numbers: the weights, and a part linear in pixels times frames.

    `ways` has the quickest first; a worker whose card is full continues in the last. `fixed_bytes`
    are for memory that no tensor shows: the CUDA context, the libraries' workspaces, rounding up.
    """

    model_config = ConfigDict(frozen=True)

    fixed_bytes: int
    bytes_per_decoded_pixel: int
    ways: tuple[MemoryMode, ...] = Field(min_length=1)

    def least_bytes(self, *, width: int, height: int, num_frames: int) -> int:
        """Return the bytes of the card that a clip needs in the most frugal mode."""
        size = {"width": width, "height": height, "num_frames": num_frames}
        return min(self.bytes_in(way, **size) for way in self.ways)

    def bytes_in(self, way: MemoryMode, *, width: int, height: int, num_frames: int) -> int:
        """Return the bytes of the card that a clip of this size needs in one mode.

        The stages of a render follow one another, so the largest of them counts. How far the
        estimate is from what renders take:
        `tests/integration/i2vgen/test_i2vgen_footprint.py` holds it against the tensors of a
        full-size model, and the bench against the card's own count.
        """
        pixels = width * height
        encoding = way.encoding_bytes
        denoising = way.denoising_bytes + way.bytes_per_pixel_frame * pixels * num_frames
        # The same VAE encodes the image, with less memory than it needs to decode a frame.
        decoding = self.bytes_per_decoded_pixel * pixels * min(way.decode_frames, num_frames)
        return self.fixed_bytes + way.weights_bytes + max(encoding, denoising, decoding)
