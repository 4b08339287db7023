"""The source of an image: the body, a URL, an upload, or a frame of the client's own clip."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from api.submit.image_text import image_in, is_url
from shared.errors import InvalidRequest, NotFound
from shared.excerpt import excerpt
from shared.jobs.job import parse_id
from shared.numbers import MOST
from shared.uploads import parse_upload_id

MAX_URL: Final = 8000
"""A presigned link with the token of temporary AWS credentials has 2,000 to 4,000 characters."""

_HOW: Final = (
    'a file part of a multipart form, or {"url": "https://…"},'
    ' {"data": "data:image/png;base64,…"}, {"upload_id": "upload_…"}, {"part": "a file part\'s'
    ' name"} or {"job_id": "job_…", "frame": -1}'
)

_UPLOAD: Final = re.compile(r"upload_[0-9a-f]{32}")

Files = Mapping[str, bytes]
"""The file parts of a form, by name."""


@dataclass(frozen=True)
class ImageUrl:
    """A URL that the client gives for its image; nothing is known about it."""

    url: str


@dataclass(frozen=True)
class ImageUpload:
    """An upload that the client names; its owner was not checked yet."""

    upload_id: UUID


@dataclass(frozen=True)
class ImageFrame:
    """A frame of a clip that the client names; a negative number counts from the end."""

    job_id: UUID
    frame: int


ImageSource = bytes | ImageUrl | ImageUpload | ImageFrame


def read_source(sent: object, files: Files, *, name: str = "image") -> ImageSource:
    """Return the image in a body's value, or its source.

    Raises:
        InvalidRequest: it is not one of these sources; `param` is `name`.
    """
    if isinstance(sent, Mapping):
        for keys, read in _WAYS.items():
            if set(sent) == set(keys):
                return read(sent, files, name)
        raise InvalidRequest(f"{name} takes {_HOW}", param=name)
    if sent is None:
        raise InvalidRequest(f"{name} is missing; it takes {_HOW}", param=name)
    if isinstance(sent, str) and is_url(sent.strip()):
        return _url({"url": sent}, files, name)
    if isinstance(sent, str) and _UPLOAD.fullmatch(sent.strip()):
        return _upload({"upload_id": sent.strip()}, files, name)
    return _decoded(sent, name)


def _url(sent: Mapping[str, Any], _: Files, name: str) -> ImageSource:
    url = sent["url"].strip() if isinstance(sent["url"], str) else ""
    if url[:5].lower() == "data:":
        return _decoded(url, name)
    if not 0 < len(url) <= MAX_URL:
        raise InvalidRequest(
            f"{name}.url takes a URL of at most {MAX_URL} characters,"
            " like https://example.org/cat.jpg",
            param=f"{name}.url",
        )
    return ImageUrl(url)


def _data(sent: Mapping[str, Any], _: Files, name: str) -> ImageSource:
    return _decoded(sent["data"], name)


def _upload(sent: Mapping[str, Any], _: Files, name: str) -> ImageSource:
    try:
        return ImageUpload(parse_upload_id(sent["upload_id"]))
    except NotFound as error:
        raise InvalidRequest(
            f"{name}.upload_id is not the id of an upload; POST /v1/uploads gives one",
            param=f"{name}.upload_id",
        ) from error


def _part(sent: Mapping[str, Any], files: Files, name: str) -> ImageSource:
    part = sent["part"]
    if isinstance(part, str) and part in files:
        return files[part]
    there = f"it has {', '.join(map(excerpt, files))}" if files else "it has none"
    raise InvalidRequest(
        f"{name}.part names a file part of the same multipart form; {there}", param=f"{name}.part"
    )


def _frame(sent: Mapping[str, Any], _: Files, name: str) -> ImageSource:
    frame = number(sent["frame"])
    if not isinstance(frame, int) or isinstance(frame, bool) or abs(frame) > MOST:
        raise InvalidRequest(
            f"{name}.frame takes a whole number: 0 is the clip's first frame, -1 its last",
            param=f"{name}.frame",
        )
    try:
        return ImageFrame(parse_id(str(sent["job_id"])), frame)
    except NotFound as error:
        raise InvalidRequest(
            f"{name}.job_id is not the id of one of your jobs", param=f"{name}.job_id"
        ) from error


def number(sent: object) -> object:
    """Return a whole number that a form sent as a text; anything else as it is."""
    is_text = isinstance(sent, str) and re.fullmatch(r"-?[0-9]{1,9}", sent)
    return int(str(sent)) if is_text else sent


_WAYS: Final[Mapping[tuple[str, ...], Callable[[Mapping[str, Any], Files, str], ImageSource]]] = {
    ("url",): _url,
    ("data",): _data,
    ("upload_id",): _upload,
    ("part",): _part,
    ("job_id", "frame"): _frame,
}


def _decoded(sent: object, name: str) -> bytes:
    image = image_in(sent.strip(), name) if isinstance(sent, str) else None
    if image is None:
        raise InvalidRequest(f"{name} takes {_HOW}", param=name)
    return image
