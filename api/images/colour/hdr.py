"""HDR images (PQ and HLG) as SDR: 203 nits are white, and brighter light rolls off."""

from collections.abc import Callable
from typing import Final

from PIL import Image, ImageFilter

from api.images.colour.space import (
    BT709,
    HLG,
    PQ,
    PRIMARIES,
    Cicp,
    inverse,
    multiply,
    to_xyz,
)

WHITE_NITS: Final = 203.0
"""The luminance of white paper in an HDR image (ITU-R BT.2408)."""

HLG_PEAK_NITS: Final = 1000.0
HLG_GAMMA: Final = 1.2
KNEE: Final = 0.8
"""A share of white: darker light is unchanged."""

BRIGHT_SHARE: Final = 0.999
"""The brightest thousandth of an image does not decide how far the rest is dimmed."""

HARDLY_BRIGHTER: Final = 1.25
"""The edges of a compressed image overshoot: up to here nothing is dimmed because of them."""

SIDE: Final = 33
"""Nodes on each side of the colour table: an error of less than one level, and 0.2 s to make."""


def is_hdr(colour: Cicp) -> bool:
    return colour.transfer in {PQ, HLG}


def to_sdr(image: Image.Image, colour: Cicp) -> Image.Image:
    """Return an RGB image of PQ or HLG codes as sRGB."""
    light = pq_to_light if colour.transfer == PQ else hlg_to_light
    return image.filter(_table(colour, light, peak=_peak(image, colour, light)))


def pq_to_light(code: float) -> float:
    """Return the light, where 1 is white, of a code of SMPTE ST 2084."""
    root = code ** (1 / 78.84375)
    ratio = max(root - 0.8359375, 0.0) / (18.8515625 - 18.6875 * root)
    return float(10_000 * ratio ** (1 / 0.1593017578125) / WHITE_NITS)


def hlg_to_light(code: float) -> float:
    """Return the scene's light from 0 to 1 of a code of ARIB STD-B67."""
    if code <= 0.5:
        return code * code / 3
    return float((2.718281828459045 ** ((code - 0.55991073) / 0.17883277) + 0.28466892) / 12)


def _peak(image: Image.Image, colour: Cicp, light: Callable[[float], float]) -> float:
    """Return the brightest light of an image that counts."""
    codes = [_percentile(channel.histogram()) for channel in image.split()]
    brightest = light(max(codes) / 255)
    return _shown(brightest, brightest) if colour.transfer == HLG else brightest


def _percentile(histogram: list[int]) -> int:
    left = sum(histogram) * (1 - BRIGHT_SHARE)
    for code in range(255, -1, -1):
        left -= histogram[code]
        if left < 0:
            return code
    return 0


def _shown(light: float, luminance: float) -> float:
    """Return the light that a screen of 1000 nits makes of HLG's light, where 1 is white."""
    return float(luminance ** (HLG_GAMMA - 1)) * light * HLG_PEAK_NITS / WHITE_NITS


def _table(
    colour: Cicp, light: Callable[[float], float], *, peak: float
) -> ImageFilter.Color3DLUT:
    source = PRIMARIES.get(colour.primaries, BT709)
    own = to_xyz(source)
    (m00, m01, m02), (m10, m11, m12), (m20, m21, m22) = multiply(inverse(to_xyz(BT709)), own)
    weights = own[1]
    lights = [light(node / (SIDE - 1)) for node in range(SIDE)]
    is_hlg = colour.transfer == HLG
    entries: list[float] = []
    for blue in lights:
        for green in lights:
            for red in lights:
                r, g, b = red, green, blue
                if is_hlg:
                    shown = _shown(1.0, weights[0] * r + weights[1] * g + weights[2] * b)
                    r, g, b = r * shown, g * shown, b * shown
                gain = _dimmed(max(r, g, b), peak)
                r, g, b = r * gain, g * gain, b * gain
                entries += (
                    _srgb(m00 * r + m01 * g + m02 * b),
                    _srgb(m10 * r + m11 * g + m12 * b),
                    _srgb(m20 * r + m21 * g + m22 * b),
                )
    return ImageFilter.Color3DLUT(SIDE, entries)


def _dimmed(brightest: float, peak: float) -> float:
    """Return the factor for a colour: 1 below the knee, and smaller and smaller above it."""
    if peak <= HARDLY_BRIGHTER or brightest <= KNEE:
        return 1.0
    over, most = ((value - KNEE) / (1 - KNEE) for value in (brightest, peak))
    rolled = over * (1 + over / most**2) / (1 + over)
    return (KNEE + (1 - KNEE) * rolled) / brightest


def _srgb(light: float) -> float:
    """Return the sRGB code from 0 to 1; a little beyond 1, so that the table can slope there."""
    if light <= 0.0031308:
        return max(-1.0, light * 12.92)
    return min(2.0, float(1.055 * light ** (1 / 2.4) - 0.055))
