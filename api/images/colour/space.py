"""Colour spaces given by numbers (ITU-T H.273) instead of a profile, and profiles made of them.

A space is three primaries, a white and a curve. An ICC profile made here holds only these.
"""

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Final

Point = tuple[float, float]
Matrix = tuple[tuple[float, float, float], ...]
Curve = Callable[[float], float]
"""From a coded value to light, both from 0 to 1."""

D65: Final[Point] = (0.3127, 0.3290)
DCI_WHITE: Final[Point] = (0.314, 0.351)
C_WHITE: Final[Point] = (0.310, 0.316)
D50_XYZ: Final = (0.9642, 1.0, 0.8249)
"""The white point of ICC profiles."""

UNSPECIFIED: Final = 2
PQ: Final = 16
HLG: Final = 18


@dataclass(frozen=True)
class Primaries:
    """The chromaticities of red, green, blue and white (CIE 1931 x, y)."""

    red: Point
    green: Point
    blue: Point
    white: Point


@dataclass(frozen=True)
class Cicp:
    """Colours as AVIF, HEIC and PNG give them: two code points of H.273."""

    primaries: int
    transfer: int


BT709: Final = Primaries((0.640, 0.330), (0.300, 0.600), (0.150, 0.060), D65)
ADOBE_RGB: Final = Primaries((0.640, 0.330), (0.210, 0.710), (0.150, 0.060), D65)
ADOBE_GAMMA: Final = 563 / 256

PRIMARIES: Final = {
    1: BT709,
    4: Primaries((0.67, 0.33), (0.21, 0.71), (0.14, 0.08), C_WHITE),
    5: Primaries((0.64, 0.33), (0.29, 0.60), (0.15, 0.06), D65),
    6: Primaries((0.630, 0.340), (0.310, 0.595), (0.155, 0.070), D65),
    7: Primaries((0.630, 0.340), (0.310, 0.595), (0.155, 0.070), D65),
    8: Primaries((0.681, 0.319), (0.243, 0.692), (0.145, 0.049), C_WHITE),
    9: Primaries((0.708, 0.292), (0.170, 0.797), (0.131, 0.046), D65),
    11: Primaries((0.680, 0.320), (0.265, 0.690), (0.150, 0.060), DCI_WHITE),
    12: Primaries((0.680, 0.320), (0.265, 0.690), (0.150, 0.060), D65),
    22: Primaries((0.630, 0.340), (0.295, 0.605), (0.155, 0.077), D65),
}

_BRADFORD: Final[Matrix] = (
    (0.8951, 0.2664, -0.1614),
    (-0.7502, 1.7135, 0.0367),
    (0.0389, -0.0685, 1.0296),
)
_TABLE: Final = 4096


def srgb_to_light(value: float) -> float:
    return value / 12.92 if value <= 0.04045 else float(((value + 0.055) / 1.055) ** 2.4)


def power(gamma: float) -> Curve:
    return lambda value: float(value**gamma)


CURVES: Final[dict[int, Curve]] = {
    4: power(2.2),
    5: power(2.8),
    8: power(1.0),
    17: lambda value: min(1.0, float(value**2.6) * 52.37 / 48),
}
"""Codes other than these, PQ and HLG are read as sRGB. This includes cameras' curves (1, 6, 14,
15), because images with those codes were viewed on screens that ignore the difference."""


def curve_of(transfer: int) -> Curve:
    return CURVES.get(transfer, srgb_to_light)


def multiply(left: Matrix, right: Matrix) -> Matrix:
    columns = tuple(zip(*right, strict=True))
    return tuple(
        (_dot(row, columns[0]), _dot(row, columns[1]), _dot(row, columns[2])) for row in left
    )


def inverse(m: Matrix) -> Matrix:
    """Return the inverse of a matrix.

    Raises:
        ValueError: it has none, for example with primaries on one line.
    """
    (a, b, c), (d, e, f), (g, h, i) = m
    cofactors = (
        (e * i - f * h, c * h - b * i, b * f - c * e),
        (f * g - d * i, a * i - c * g, c * d - a * f),
        (d * h - e * g, b * g - a * h, a * e - b * d),
    )
    determinant = a * cofactors[0][0] + b * cofactors[1][0] + c * cofactors[2][0]
    if abs(determinant) < 1e-9:
        raise ValueError("these primaries span no colours")
    return tuple((x / determinant, y / determinant, z / determinant) for x, y, z in cofactors)


def to_xyz(primaries: Primaries) -> Matrix:
    """Return the matrix from light of these primaries to XYZ with the white of ICC profiles.

    Raises:
        ValueError: these are not primaries.
    """
    points = (primaries.red, primaries.green, primaries.blue)
    columns = tuple(zip(*(_xyz(point) for point in points), strict=True))
    white = _xyz(primaries.white)
    scale = _apply(inverse(columns), white)
    matrix = tuple((row[0] * scale[0], row[1] * scale[1], row[2] * scale[2]) for row in columns)
    return multiply(_adaptation(white), matrix)


def profile(primaries: Primaries, curve: Curve) -> bytes:
    """Return an ICC profile (version 2, a matrix and a curve) of a space.

    Raises:
        ValueError: these are not primaries.
    """
    red, green, blue = zip(*to_xyz(primaries), strict=True)
    points = [min(65535, max(0, round(curve(n / (_TABLE - 1)) * 65535))) for n in range(_TABLE)]
    curve_tag = b"curv" + struct.pack(f">II{_TABLE}H", 0, _TABLE, *points)
    name = b"colours told by numbers\0"
    description = b"desc" + struct.pack(">II", 0, len(name)) + name + bytes(12 + 67)
    tags = {
        b"desc": description,
        b"cprt": b"text" + bytes(4) + b"none\0",
        b"wtpt": _xyz_tag(D50_XYZ),
        b"rXYZ": _xyz_tag(red),
        b"gXYZ": _xyz_tag(green),
        b"bXYZ": _xyz_tag(blue),
        b"rTRC": curve_tag,
    }
    padded = [tag + bytes(-len(tag) % 4) for tag in tags.values()]
    start = 128 + 4 + 12 * (len(tags) + 2)
    offsets = [start + before for before in accumulate(map(len, padded), initial=0)][:-1]
    entries = [(name, at, len(tag)) for (name, tag), at in zip(tags.items(), offsets, strict=True)]
    entries += [(name, *entries[-1][1:]) for name in (b"gTRC", b"bTRC")]
    table = b"".join(struct.pack(">4sII", *entry) for entry in entries)
    body = struct.pack(">I", len(entries)) + table + b"".join(padded)
    header = struct.pack(
        ">I4xI4s4s4s12x4s", 128 + len(body), 0x02400000, b"mntr", b"RGB ", b"XYZ ", b"acsp"
    )
    header += bytes(68 - len(header)) + _fixed(D50_XYZ)
    return header + bytes(128 - len(header)) + body


def _adaptation(white: Sequence[float]) -> Matrix:
    """Return the matrix that turns a white into that of ICC profiles, as eyes adapt (Bradford)."""
    there, here = _apply(_BRADFORD, D50_XYZ), _apply(_BRADFORD, white)
    gains = [t / h for t, h in zip(there, here, strict=True)]
    scaled = tuple(
        (row[0] * gain, row[1] * gain, row[2] * gain)
        for row, gain in zip(_BRADFORD, gains, strict=True)
    )
    return multiply(inverse(_BRADFORD), scaled)


def _xyz(point: Point) -> tuple[float, float, float]:
    x, y = point
    if y <= 0:
        raise ValueError("these primaries span no colours")
    return x / y, 1.0, (1 - x - y) / y


def _dot(left: Sequence[float], right: Sequence[float]) -> float:
    return left[0] * right[0] + left[1] * right[1] + left[2] * right[2]


def _apply(matrix: Sequence[Sequence[float]], vector: Sequence[float]) -> list[float]:
    return [_dot(row, vector) for row in matrix]


def _fixed(values: Sequence[float]) -> bytes:
    return struct.pack(">3i", *(round(value * 65536) for value in values))


def _xyz_tag(values: Sequence[float]) -> bytes:
    return b"XYZ " + bytes(4) + _fixed(values)
