"""An image in sRGB, by what its file says: a profile, code points, a gamma, or EXIF."""

import io
from dataclasses import dataclass
from typing import Final

from PIL import Image, ImageCms

from api.images.colour.hdr import is_hdr, to_sdr
from api.images.colour.space import (
    ADOBE_GAMMA,
    ADOBE_RGB,
    BT709,
    PQ,
    PRIMARIES,
    Cicp,
    Primaries,
    curve_of,
    power,
    profile,
)

SRGB_GAMMA: Final = 0.45455
EXIF_BLOCK, COLOUR_SPACE = 0x8769, 0xA001
INTEROPERABILITY_BLOCK, INTEROPERABILITY_INDEX = 0xA005, 1
EXIF_SRGB, EXIF_ADOBE_RGB = 1, 2

_SRGB: Final = ImageCms.createProfile("sRGB")
_UNREADABLE: Final = (ImageCms.PyCMSError, OSError, ValueError, TypeError, OverflowError)


@dataclass(frozen=True)
class Told:
    """What a file says about its colours."""

    icc: bytes | None = None
    cicp: Cicp | None = None
    is_cicp_first: bool = False
    """In a PNG the code points win over the profile; in AVIF and HEIC the profile wins."""

    is_narrow: bool = False
    """In a PNG: codes go from 16 to 235, as in a film."""

    is_srgb: bool = False
    gamma: float | None = None
    primaries: Primaries | None = None
    is_adobe_rgb: bool = False


def says_adobe_rgb(image: Image.Image) -> bool:
    """Say whether a camera's tags mean Adobe RGB; cameras write no profile for it."""
    try:
        exif = image.getexif()
        space = exif.get_ifd(EXIF_BLOCK).get(COLOUR_SPACE)
        if space in {EXIF_SRGB, EXIF_ADOBE_RGB}:
            return bool(space == EXIF_ADOBE_RGB)
        index = exif.get_ifd(INTEROPERABILITY_BLOCK).get(INTEROPERABILITY_INDEX)
    except Exception:  # The block has a client's bytes, so its parser may raise any exception.
        return False
    return (index.encode() if isinstance(index, str) else index) in {b"R03", b"R03\0"}


def to_srgb(image: Image.Image, told: Told) -> tuple[Image.Image, tuple[str, ...]]:
    """Return an image of mode L, RGB or CMYK as RGB in sRGB, and a warning if there is one."""
    if told.icc is not None and not (told.cicp is not None and told.is_cicp_first):
        try:
            return _by_profile(image, told.icc), ()
        except _UNREADABLE:
            pass  # A broken profile is no reason to refuse the image.
    if image.mode != "RGB":
        image = image.convert("RGB")
    if told.is_narrow:
        image = image.point([_from_narrow(code) for code in range(256)] * 3)
    if told.cicp is not None and is_hdr(told.cicp):
        kind = "PQ" if told.cicp.transfer == PQ else "HLG"
        return to_sdr(image, told.cicp), (
            f"the image is HDR ({kind}); it was tone-mapped to SDR, white at 203 nits",
        )
    made = _made_profile(told)
    return (image if made is None else _by_profile(image, made)), ()


def _made_profile(told: Told) -> bytes | None:
    """Return a profile for colours that are given without one; None for those of sRGB."""
    try:
        if told.cicp is not None:
            primaries = PRIMARIES.get(told.cicp.primaries, BT709)
            curve = curve_of(told.cicp.transfer)
            is_plain = primaries is BT709 and curve is curve_of(1)
            return None if is_plain else profile(primaries, curve)
        if told.is_srgb:
            return None
        if told.gamma is not None and (told.primaries or not _is_srgb_gamma(told.gamma)):
            curve = curve_of(1) if _is_srgb_gamma(told.gamma) else power(1 / told.gamma)
            return profile(told.primaries or BT709, curve)
        return profile(ADOBE_RGB, power(ADOBE_GAMMA)) if told.is_adobe_rgb else None
    except (ValueError, OverflowError, ZeroDivisionError):
        return None  # Colours that no screen could show are no reason to refuse the image.


def _from_narrow(code: int) -> int:
    return min(255, max(0, round((code - 16) * 255 / 219)))


def _is_srgb_gamma(gamma: float) -> bool:
    """Programs write 1/2.2 for sRGB, because its curve is nearly that."""
    return abs(gamma - SRGB_GAMMA) < 0.005


def _by_profile(image: Image.Image, icc: bytes) -> Image.Image:
    source = ImageCms.ImageCmsProfile(io.BytesIO(icc))
    space = source.profile.xcolor_space.strip()
    if space == "RGB" and image.mode == "L":
        image = image.convert("RGB")
    if space == "GRAY" and image.mode == "RGB":
        image = _grey(image)
    if image.mode != {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}.get(space):
        raise ValueError("the profile belongs to other channels than the image's")
    converted = ImageCms.profileToProfile(image, source, _SRGB, outputMode="RGB")
    if converted is None:
        raise ValueError("the profile gave no image")
    return converted


def _grey(image: Image.Image) -> Image.Image:
    """Return the one channel of a grey image that its format stores as three.

    Raises:
        ValueError: the image is not grey.
    """
    red, green, blue = image.split()
    if not red.tobytes() == green.tobytes() == blue.tobytes():
        raise ValueError("the profile is of grey, and the image is not")
    return red
