"""HEIC, by libheif and libde265, which had faults that ran a picture's code: only where confined.

docs/decisions/0010-heic-by-pillow-heif.md says which library and why.
"""

import io
import re
from collections.abc import Mapping
from functools import cache
from typing import Final

from PIL import Image

try:
    from pillow_heif import HeifImageFile, libheif_info, options

    IS_INSTALLED = True
except ImportError:  # An installation may leave it out: it carries an encoder under the GPL.
    IS_INSTALLED = False

FLOORS: Final = {"libheif": (1, 23, 4), "libde265": (1, 1, 3)}
"""Versions that have the mends of autumn 2026."""

_VERSION: Final = re.compile(r"(\d+)\.(\d+)\.(\d+)")


@cache
def missing() -> str | None:
    """Return why this process cannot read HEIC, whatever confines it; None where it can."""
    if not IS_INSTALLED:
        return "pillow-heif is not installed here"
    return below_floor(libheif_info())


def below_floor(info: Mapping[str, object]) -> str | None:
    """Return which library is older than its floor, by what `libheif_info` says."""
    decoders = info.get("decoders")
    said = {
        "libheif": str(info.get("libheif", "")),
        "libde265": str(decoders.get("libde265", "")) if isinstance(decoders, dict) else "",
    }
    for name, floor in FLOORS.items():
        found = _VERSION.search(said[name])
        if found is None or tuple(map(int, found.groups())) < floor:
            has = "is missing" if found is None else f"{found[0]} is older than"
            needed = "" if found is None else f" {'.'.join(map(str, floor))}"
            return f"{name} {has}{needed}"
    return None


def open_heif(body: bytes) -> Image.Image:
    """Return the picture that a file shows first, upright, not decoded yet.

    Raises:
        ValueError: and others, as decoders do.
    """
    options.DECODE_THREADS = 1  # libde265 starts one besides, and needs it.
    opened: Image.Image = HeifImageFile(io.BytesIO(body))  # type: ignore[no-untyped-call]
    return opened
