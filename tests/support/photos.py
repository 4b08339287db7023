"""Real photographs that scikit-image ships in its wheel; nothing is ever downloaded."""

from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image as PillowImage

Photo = npt.NDArray[np.uint8]

SHIPPED = ("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg", "hubble_deep_field.jpg")


def photo(name: str, *, short_side: int | None = None) -> Photo:
    """Return a shipped photograph as RGB, (height, width, 3), optionally resized.

    It is read from the installed package, because `skimage.data` would fetch a missing file.
    """
    with PillowImage.open(shipped_folder() / name) as opened:
        image = opened.convert("RGB")
    if short_side is not None:
        scale = short_side / min(image.size)
        size = (round(image.width * scale), round(image.height * scale))
        image = image.resize(size, PillowImage.Resampling.LANCZOS)
    return np.array(image)


@cache
def shipped_folder() -> Path:
    """Return the folder of the photographs, found without the library's import."""
    found = find_spec("skimage")
    assert found is not None
    assert found.origin is not None
    return Path(found.origin).parent / "data"


def phone_photo(width: int = 8064, height: int = 6048) -> PillowImage.Image:
    """Return a photograph of a phone's size, by default 48 megapixels, with a sensor's noise."""
    large = PillowImage.fromarray(rocket()).resize(
        (width, height), PillowImage.Resampling.BILINEAR
    )
    noise = np.random.default_rng(48).normal(0, 6, (512, 512)).astype(np.int8)
    tiled = np.tile(noise, (-(-height // 512), -(-width // 512)))[:height, :width, None]
    return PillowImage.fromarray(
        np.clip(np.asarray(large) + tiled.astype(np.int16), 0, 255).astype(np.uint8)
    )


def astronaut() -> Photo:
    """Return a portrait, 512 x 512."""
    return photo("astronaut.png")


def cat() -> Photo:
    """Return a cat's face with fine fur, 451 x 300."""
    return photo("chelsea.png")


def coffee() -> Photo:
    """Return a cup on a table, 600 x 400."""
    return photo("coffee.png")


def rocket() -> Photo:
    """Return a rocket on its pad, 640 x 427."""
    return photo("rocket.jpg")
