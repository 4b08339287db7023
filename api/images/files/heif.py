"""HEIC, by libheif and libde265, which had faults that ran code of an image: only where confined.

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
# An installation may leave it out, because it contains an encoder under the GPL.
except ImportError:
    IS_INSTALLED = False

FLOORS: Final = {"libheif": (1, 23, 4), "libde265": (1, 1, 3)}
"""The first versions with the fixes of autumn 2026."""

_VERSION: Final = re.compile(r"(\d+)\.(\d+)\.(\d+)")


@cache
def missing() -> str | None:
    """Return why this process cannot read HEIC, apart from confinement; None if it can."""
    if not IS_INSTALLED:
        return "pillow-heif is not installed here"
    return below_floor(libheif_info())


def below_floor(info: Mapping[str, object]) -> str | None:
    """Return the library that is older than its floor, by what `libheif_info` says."""
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
    """Return the image that a file shows first, upright, not decoded yet.

    Raises:
        ValueError: and other exceptions, as decoders raise.
    """
    options.DECODE_THREADS = 1  # libde265 starts one more thread, and needs it.
    opened: Image.Image = HeifImageFile(io.BytesIO(body))  # type: ignore[no-untyped-call]
    return opened
