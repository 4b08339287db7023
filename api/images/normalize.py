"""Pictures as clients send them, turned into the one PNG that is stored and rendered.

The gateway has this done by `api.images.decoder_pool`, in another process.
"""

import hashlib
import io
from typing import Final

from PIL import Image, ImageCms, UnidentifiedImageError

from api.images.protocol import Picture
from api.images.scans import count_scans
from api.images.sniff import is_cut, looks_like
from shared.errors import (
    AnimatedImage,
    ImageOverLimits,
    ImageTooLarge,
    InvalidImage,
    TruncatedImage,
    UnsupportedImage,
)

FORMATS: Final = ("JPEG", "PNG", "WEBP", "AVIF")
MIN_SIDE: Final = 16
MAX_ASPECT: Final = 10
MAX_SHORT_SIDE: Final = 2048  # Twice the largest resolution; more would only slow the PNG.
MAX_SCANS: Final = 100
MAX_PASSES: Final = 1_300_000_000
"""Pixels times scans, of which a core does 200 million in a second: the largest pictures may have
twenty, twice what a progressive JPEG has."""

PNG_LEVEL: Final = 1  # A full-size PNG was measured at 2-8 s at the usual level.
WHITE: Final = (255, 255, 255)

_SRGB: Final = ImageCms.createProfile("sRGB")
_NOT_READ: Final = "; send a JPEG, PNG, WEBP or AVIF"
ORIENTATION: Final = 0x0112

# Pillow's own guard only warns between one and two times its limit, and raises without a code;
# ours looks at the same header first.
Image.MAX_IMAGE_PIXELS = None


def read_image(body: bytes, *, max_pixels: int) -> Picture:
    """Decode an upload and encode it anew; nothing of the original file survives but its look.

    Raises:
        UnsupportedImage: it is no JPEG, PNG, WEBP or AVIF.
        TruncatedImage, InvalidImage: it is one, but broken, or of a shape no clip can have.
        AnimatedImage: it has more than one frame.
        ImageTooLarge: it has more than `max_pixels`, known before anything is decoded.
        ImageOverLimits: this process may not have the memory that it takes.
    """
    if not body:
        raise InvalidImage(f"the image is empty{_NOT_READ}", param="image")
    try:
        with _open(body) as opened:
            _check_header(opened, max_pixels)
            if opened.format in {"JPEG", "MPO"}:
                _check_scans(body, opened.size)
            return _normalise(opened)
    except InvalidImage:
        raise
    except Exception as error:  # Decoders raise anything: a broken file is the client's, not ours.
        raise _broken(error, body) from error


def _open(body: bytes) -> Image.Image:
    try:
        return Image.open(io.BytesIO(body), formats=FORMATS)
    except UnidentifiedImageError as error:
        kind = looks_like(body)
        if kind in FORMATS:
            raise _broken(error, body) from error
        what = "this is not an image" if kind is None else f"this looks like {kind}"
        raise UnsupportedImage(f"{what}{_NOT_READ}", param="image") from error


def _check_header(image: Image.Image, max_pixels: int) -> None:
    width, height = image.size
    if width * height > max_pixels:
        raise ImageTooLarge(
            f"the image has {width * height / 1e6:.1f} million pixels ({width} x {height});"
            f" the limit is {max_pixels / 1e6:g} million",
            param="image",
        )
    if min(width, height) < MIN_SIDE:
        raise InvalidImage(
            f"the image is {width} x {height}; each side needs at least {MIN_SIDE} pixels",
            param="image",
        )
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise InvalidImage(
            f"the image is {width} x {height}; one side may be at most {MAX_ASPECT} times"
            " the other: crop it",
            param="image",
        )
    # A JPEG may carry second pictures (depth, gain maps): phones write such files as MPO.
    frames = getattr(image, "n_frames", 1)
    if image.format in {"PNG", "WEBP", "AVIF"} and frames > 1:
        raise AnimatedImage(
            f"the image is animated ({frames} frames); send one still picture", param="image"
        )


def _check_scans(body: bytes, size: tuple[int, int]) -> None:
    scans = count_scans(body)
    if scans is None or scans > MAX_SCANS or scans * size[0] * size[1] > MAX_PASSES:
        counted = "far too many segments" if scans is None else f"{scans} scans"
        raise ImageOverLimits(
            f"the image is a JPEG of {counted}, each of which is work on all of its"
            f" {size[0]} x {size[1]} pixels; save it anew as a plain JPEG or PNG",
            param="image",
        )


def _normalise(image: Image.Image) -> Picture:
    """Return the picture of an opened file; shrinks first, so that the rest works on less."""
    orientation = _orientation(image)
    icc = image.info.get("icc_profile")
    # The JPEG decoder itself halves the sides as long as both stay above the target: a
    # 48-megapixel photo costs a quarter.
    image.draft(None, _target(image.size))
    image.load()
    picture = _shrink(_plain_mode(image))
    picture = _to_srgb(picture, icc)
    picture, is_flattened = _flatten(picture)
    if orientation is not None:
        picture = picture.transpose(orientation)
    picture.info.clear()
    encoded = io.BytesIO()
    picture.save(encoded, "PNG", compress_level=PNG_LEVEL)
    png = encoded.getvalue()
    return Picture(
        png=png,
        sha256=hashlib.sha256(png).hexdigest(),
        width=picture.width,
        height=picture.height,
        warnings=("the image's transparency was filled with white",) if is_flattened else (),
    )


def _plain_mode(image: Image.Image) -> Image.Image:
    """Return the image as L, RGB, RGBA or CMYK, 8 bits a channel."""
    if image.mode.startswith("I"):
        # Converting 16-bit grey directly would cut it off at 255 instead of scaling it.
        return image.convert("I").point(lambda value: value * (1 / 257) + 0.5).convert("L")
    if image.mode not in {"L", "RGB", "RGBA", "CMYK"} or "transparency" in image.info:
        return image.convert("RGBA" if image.has_transparency_data else "RGB")
    return image


def _target(size: tuple[int, int]) -> tuple[int, int]:
    scale = min(1.0, MAX_SHORT_SIDE / min(size))
    return round(size[0] * scale), round(size[1] * scale)


def _shrink(image: Image.Image) -> Image.Image:
    size = _target(image.size)
    if size == image.size:
        return image
    return image.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0)


def _to_srgb(image: Image.Image, icc: bytes | None) -> Image.Image:
    """Return the colours as sRGB: phones write Display P3; what cannot be read is left alone."""
    if icc:
        try:
            return _by_profile(image, icc)
        except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
            pass  # A broken profile is no reason to refuse the picture.
    return image if image.mode in {"RGB", "RGBA"} else image.convert("RGB")


def _by_profile(image: Image.Image, icc: bytes) -> Image.Image:
    profile = ImageCms.ImageCmsProfile(io.BytesIO(icc))
    space = profile.profile.xcolor_space.strip()
    if space == "RGB" and image.mode == "L":
        image = image.convert("RGB")
    modes = {"RGB": {"RGB", "RGBA"}, "GRAY": {"L"}, "CMYK": {"CMYK"}}
    if image.mode not in modes.get(space, set()):
        raise ValueError("the profile belongs to other channels than the picture's")
    output = "RGBA" if image.mode == "RGBA" else "RGB"
    converted = ImageCms.profileToProfile(image, profile, _SRGB, outputMode=output)
    if converted is None:
        raise ValueError("the profile gave no picture")
    return converted


def _flatten(image: Image.Image) -> tuple[Image.Image, bool]:
    """Return the image over white, and whether any of it was transparent."""
    if image.mode != "RGBA":
        return image, False
    alpha = image.getchannel("A")
    flat = Image.new("RGB", image.size, WHITE)
    flat.paste(image, mask=alpha)
    return flat, alpha.getextrema()[0] != 255


def _orientation(image: Image.Image) -> Image.Transpose | None:
    """Return how to turn the picture upright; an unreadable EXIF block means not at all."""
    try:
        value = image.getexif().get(ORIENTATION)
    except Exception:  # The block is the client's bytes: its parser raises anything.
        return None
    return _TURNS.get(value)


_TURNS: Final[dict[object, Image.Transpose]] = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def _broken(error: Exception, body: bytes) -> InvalidImage:
    if isinstance(error, MemoryError) or "out of memory" in str(error).lower():
        return ImageOverLimits(
            "the image takes more memory to decode than one may; save it anew as a plain JPEG"
            " or PNG",
            param="image",
        )
    if "truncated" in str(error).lower() or is_cut(body):
        return TruncatedImage(
            "the image ends in the middle; it was cut off on its way: send it again", param="image"
        )
    return InvalidImage(
        "the image is damaged and cannot be read; save it anew as a plain JPEG or PNG",
        param="image",
    )
