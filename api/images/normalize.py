"""Images as clients send them, turned into the one PNG that is stored and rendered.

The gateway does this in another process, by `api.images.decoder_pool`.
"""

import hashlib
import io
from dataclasses import dataclass, replace
from typing import Final

from PIL import Image, ImageMath, UnidentifiedImageError

from api.images.colour.space import Cicp
from api.images.colour.to_srgb import Told, says_adobe_rgb, to_srgb
from api.images.files import heif
from api.images.files.boxes import Area, aperture_of, cicp_of
from api.images.files.jpeg_end import with_end
from api.images.files.jpeg_segments import profile_of, with_plain_head
from api.images.files.png_chunks import read_png
from api.images.files.unusual import unusual_kind
from api.images.files.webp_chunks import with_whole_chunks
from api.images.protocol import DecodedImage
from api.images.scans import count_scans
from api.images.sniff import is_cut, looks_like
from shared.errors.images import (
    AnimatedImage,
    ImageOverLimits,
    ImageTooLarge,
    InvalidImage,
    TruncatedImage,
    UnsupportedImage,
)

FORMATS: Final = ("JPEG", "PNG", "WEBP", "AVIF")
HEIC: Final = "HEIC"
MIN_SIDE: Final = 16
MAX_ASPECT: Final = 32
"""A panorama of a phone has 10:1 and more; a clip shows a part of it."""

MAX_LONG_SIDE: Final = 20_480
MAX_SHORT_SIDE: Final = 2048  # Twice the largest resolution; more would only slow the PNG.
MAX_SCANS: Final = 100
MAX_PASSES: Final = 1_300_000_000
"""Pixels times scans; a core does 200 million of these in a second. The largest images may have
twenty scans, twice as many as a progressive JPEG has."""

DRAFTED: Final = 4
"""How many times as large as another image a JPEG may be, because its decoder halves the sides."""

PNG_LEVEL: Final = 1  # A full-size PNG was measured at 2-8 s at the usual level.
WHITE: Final = (255, 255, 255)

_NOT_READ: Final = "; send a JPEG, PNG, WEBP, AVIF or HEIC"
_WITHOUT_HEIC: Final = "send it as JPEG (on an iPhone: Settings, Camera, Formats, Most Compatible)"
_JPEG: Final = frozenset({"JPEG", "MPO"})
ORIENTATION: Final = 0x0112

# Pillow's own guard only warns between one and two times its limit, and raises without a code;
# ours looks at the same header first.
Image.MAX_IMAGE_PIXELS = None


@dataclass(frozen=True)
class Opened:
    """A file that is an image, and whose pixels are not decoded yet."""

    image: Image.Image
    kind: str
    told: Told
    transparent: int | tuple[int, ...] | None = None
    """In a PNG: the colour that is transparent."""

    aperture: Area | None = None
    """In an AVIF: the part that is to be shown; libheif cuts it out of a HEIC itself."""


def read_image(body: bytes, *, max_pixels: int, no_heic: str | None = None) -> DecodedImage:
    """Decode an upload and encode it again; only its look survives of the original file.

    Args:
        max_pixels: the most that are decoded; a JPEG, which is halved meanwhile, may have DRAFTED
            times as many.
        no_heic: why HEIC is not read here, if it is not.

    Raises:
        UnsupportedImage: it is not a JPEG, PNG, WEBP, AVIF or HEIC, or it is a HEIC where none is
            read.
        TruncatedImage, InvalidImage: it is one, but broken, or of a shape that no clip can have.
        AnimatedImage: it has more than one frame.
        ImageTooLarge: it has more than `max_pixels`, known before anything is decoded.
        ImageOverLimits: it needs more memory than this process may use.
    """
    if not body:
        raise InvalidImage(f"the image is empty{_NOT_READ}", param="image")
    try:
        body = _mended(body)
        opened = _open(body, no_heic)
        with opened.image as image:
            _check_header(image, opened.kind, max_pixels)
            if opened.kind in _JPEG:
                _check_scans(body, image.size)
                mended = with_end(body, _target(image.size))
                opened = opened if mended is body else _open(mended, no_heic)
            return _normalise(opened)
    except InvalidImage:
        raise
    # Decoders raise any exception, and a broken file is the client's fault, not ours.
    except Exception as error:
        raise _broken(error, body) from error


def _mended(body: bytes) -> bytes:
    """Return a file without small faults that every browser overlooks, and Pillow does not."""
    kind = looks_like(body)
    if kind == "JPEG":
        return with_plain_head(body)
    return with_whole_chunks(body) if kind == "WEBP" else body


def _open(body: bytes, no_heic: str | None) -> Opened:
    kind = looks_like(body)
    if kind == HEIC:
        reason = no_heic or heif.missing()
        if reason is not None:
            raise UnsupportedImage(
                f"this looks like HEIC, which is not read here: {reason}; {_WITHOUT_HEIC}",
                param="image",
            )
        image = heif.open_heif(body)
        return Opened(image, HEIC, _told(image, cicp=cicp_of(body)))
    if kind == "PNG":
        if unusual_kind(body):  # Its decoder would make colours of it that it has not.
            raise ValueError
        png = read_png(body)
        image = _open_usual(png.body)
        told = replace(png.told, is_adobe_rgb=says_adobe_rgb(image))
        return Opened(image, "PNG", told, png.transparent)
    image = _open_usual(body)
    if image.format != "AVIF":
        told = _told(image, cicp=None)
        if image.format in _JPEG:
            told = replace(told, icc=profile_of(body) or told.icc)
        return Opened(image, image.format or "", told)
    told = _told(image, cicp=cicp_of(body))
    return Opened(image, "AVIF", told, aperture=aperture_of(body, image.size))


def _told(image: Image.Image, *, cicp: Cicp | None) -> Told:
    return Told(
        icc=image.info.get("icc_profile") or None, cicp=cicp, is_adobe_rgb=says_adobe_rgb(image)
    )


def _open_usual(body: bytes) -> Image.Image:
    try:
        return Image.open(io.BytesIO(body), formats=FORMATS)
    except UnidentifiedImageError as error:
        kind = looks_like(body)
        if kind in FORMATS:
            raise _broken(error, body) from error
        what = "this is not an image" if kind is None else f"this looks like {kind}"
        raise UnsupportedImage(f"{what}{_NOT_READ}", param="image") from error


def _check_header(image: Image.Image, kind: str, max_pixels: int) -> None:
    width, height = image.size
    most = max_pixels * DRAFTED if kind in _JPEG else max_pixels
    decoded = _drafted(image)
    if width * height > most or decoded[0] * decoded[1] > max_pixels:
        limit = most if width * height > most else max_pixels
        raise ImageTooLarge(
            f"the image has {width * height / 1e6:.1f} million pixels ({width} x {height});"
            f" the limit is {limit / 1e6:g} million",
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
    # A JPEG may have further images (depth, gain maps), which phones write as MPO. HEIC has them
    # too, and also bursts, of which the first image is shown.
    frames = getattr(image, "n_frames", 1)
    if kind in {"PNG", "WEBP", "AVIF"} and frames > 1:
        raise AnimatedImage(
            f"the image is animated ({frames} frames); send one still image", param="image"
        )


def _check_scans(body: bytes, size: tuple[int, int]) -> None:
    scans = count_scans(body)
    if scans is None or scans > MAX_SCANS or scans * size[0] * size[1] > MAX_PASSES:
        counted = "far too many segments" if scans is None else f"{scans} scans"
        raise ImageOverLimits(
            f"the image is a JPEG of {counted}, and for each the decoder passes over all of its"
            f" {size[0]} x {size[1]} pixels; save it again as a plain JPEG or PNG",
            param="image",
        )


def _normalise(opened: Opened) -> DecodedImage:
    """Return the normalised image of an opened file; shrink it first, to have less to do."""
    image = opened.image
    # libheif turns a HEIC itself, so the EXIF orientation must not be applied again.
    orientation = None if opened.kind == HEIC else _orientation(image)
    if opened.kind in _JPEG:
        # The decoder itself halves the sides as long as both stay above the target: a
        # 48-megapixel photo costs a quarter.
        image.draft(None, _target(image.size))
    image.load()
    if opened.aperture is not None and _is_of_a_clip(*opened.aperture):
        image = image.crop(opened.aperture)
    colours, alpha = _plain_mode(image, opened.transparent)
    alpha = None if alpha is None else _shrink(alpha)
    upright, warnings = to_srgb(_shrink(colours), opened.told)
    if alpha is not None:
        upright, is_flattened = _flatten(upright, alpha)
        if is_flattened:
            warnings = ("the image's transparency was filled with white", *warnings)
    if orientation is not None:
        upright = upright.transpose(orientation)
    upright.info.clear()
    encoded = io.BytesIO()
    upright.save(encoded, "PNG", compress_level=PNG_LEVEL)
    png = encoded.getvalue()
    return DecodedImage(
        png=png,
        sha256=hashlib.sha256(png).hexdigest(),
        width=upright.width,
        height=upright.height,
        warnings=warnings,
    )


def _plain_mode(
    image: Image.Image, hole: int | tuple[int, ...] | None
) -> tuple[Image.Image, Image.Image | None]:
    """Return the image as L, RGB or CMYK, 8 bits a channel, and its alpha if it has one."""
    if image.mode.startswith("I"):
        wide = image.convert("I")
        # Converting 16-bit grey directly would cut it off at 255 instead of scaling it.
        grey = wide.point(lambda value: value * (1 / 257) + 0.5).convert("L")
        if not isinstance(hole, int):
            return grey, None
        solid = ImageMath.lambda_eval(lambda args: (args["wide"] != hole) * 255, wide=wide)
        return grey, solid.convert("L")
    if hole is not None:
        image = image.convert("L") if image.mode == "1" else image
        image.info["transparency"] = hole
    if image.has_transparency_data:
        if image.mode in {"LA", "La"}:
            grey, alpha = image.convert("LA").split()
            return grey, alpha
        *channels, alpha = image.convert("RGBA").split()
        return Image.merge("RGB", channels), alpha
    return (image if image.mode in {"L", "RGB", "CMYK"} else image.convert("RGB")), None


def _is_of_a_clip(left: int, top: int, right: int, bottom: int) -> bool:
    shorter, longer = sorted((right - left, bottom - top))
    return shorter >= MIN_SIDE and longer <= MAX_ASPECT * shorter


def _target(size: tuple[int, int]) -> tuple[int, int]:
    scale = min(1.0, MAX_SHORT_SIDE / min(size), MAX_LONG_SIDE / max(size))
    return round(size[0] * scale), round(size[1] * scale)


def _drafted(image: Image.Image) -> tuple[int, int]:
    """Return the size that an image is decoded at."""
    if image.format not in _JPEG:
        return image.size
    target = _target(image.size)
    most = min(image.width // target[0], image.height // target[1])
    step = next(step for step in (8, 4, 2, 1) if step <= max(1, most))
    return -(-image.width // step), -(-image.height // step)


def _shrink(image: Image.Image) -> Image.Image:
    size = _target(image.size)
    if size == image.size:
        return image
    return image.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0)


def _flatten(image: Image.Image, alpha: Image.Image) -> tuple[Image.Image, bool]:
    """Return the image over white, and whether any of it was transparent."""
    flat = Image.new("RGB", image.size, WHITE)
    flat.paste(image, mask=alpha)
    return flat, alpha.getextrema()[0] != 255


def _orientation(image: Image.Image) -> Image.Transpose | None:
    """Return how to turn the image upright; an unreadable EXIF block means not at all.

    XMP may name an orientation too, but no browser reads it there: programs that turned the pixels
    and removed the EXIF block have left it behind.
    """
    exif = Image.Exif()
    try:
        exif.load(image.info.get("exif") or b"")
        value = exif.get(ORIENTATION)
    except Exception:  # The block has the client's bytes, so its parser may raise any exception.
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
            "the image needs more memory to decode than one image may use; save it again as a"
            " plain JPEG or PNG",
            param="image",
        )
    if kind := unusual_kind(body):
        return UnsupportedImage(
            f"this is {kind}, which is not read here; save it again as a plain JPEG or PNG",
            param="image",
        )
    if "unsupported" in str(error).lower():
        return UnsupportedImage(
            "the image uses a part of its format that is not read here; save it again as a plain"
            " JPEG or PNG",
            param="image",
        )
    if "truncated" in str(error).lower() or is_cut(body):
        return TruncatedImage(
            "the image is not complete: it was cut off on its way; send it again", param="image"
        )
    return InvalidImage(
        "the image is damaged and cannot be read; save it again as a plain JPEG or PNG",
        param="image",
    )
