"""The photo and the fields of a create request, as a form."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, TypedDict

from stillreel.errors import PhotoUnreadable

Photo = str | os.PathLike[str] | bytes | BinaryIO
"""A path, a URL that the service fetches, the bytes themselves, or an open file."""


class Fields(TypedDict, total=False):
    """Fields of a job beside its photo; a field that you leave out has the model's default."""

    model: str
    negative_prompt: str
    resolution: str
    width: int
    height: int
    fit: str
    num_frames: int
    seconds: float
    fps: int
    quality: str
    num_inference_steps: int
    guidance_scale: float
    seed: int
    priority: str
    outputs: list[str]
    queue_ttl_seconds: int
    retain_seconds: int
    webhook: dict[str, Any]
    metadata: dict[str, str]


def is_url(photo: Photo) -> bool:
    return isinstance(photo, str) and photo.lower().startswith(("http://", "https://"))


def read_photo(photo: Photo) -> tuple[str, bytes]:
    """Return a name and the bytes of a photo.

    Raises:
        PhotoUnreadable: there is no such file, it is empty, or it cannot be read.
    """
    if isinstance(photo, bytes):
        name, content = "photo", photo
    elif isinstance(photo, str | os.PathLike):
        path = Path(photo)
        try:
            name, content = path.name, path.read_bytes()
        except OSError as error:
            raise PhotoUnreadable(f"{path}: {error.strerror or error}") from error
    else:
        name, content = Path(str(getattr(photo, "name", "photo"))).name, photo.read()
        if not isinstance(content, bytes):
            raise PhotoUnreadable("the photo is open as text; open it with mode 'rb'")
    if not content:
        raise PhotoUnreadable(f"{name} is empty")
    return name, content


def form(photo: Photo, prompt: str, fields: Mapping[str, Any]) -> dict[str, str]:
    """Return the fields of a form; the photo is among them only if it is a URL."""
    said = {"prompt": prompt, **fields}
    shown = {name: _text(value) for name, value in said.items() if value not in (None, "")}
    return shown | ({"image[url]": str(photo)} if is_url(photo) else {})


def _text(value: Any) -> str:
    """Return a value for a form: text unchanged, other values as JSON."""
    return value if isinstance(value, str) else json.dumps(value)
