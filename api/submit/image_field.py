"""The picture inside a text: a data URI, base64 in any spelling, or a URL to fetch it from."""

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote_to_bytes

from shared.errors import InvalidImage, InvalidRequest

MAX_URL: Final = 8000
"""A presigned link with the token of temporary AWS credentials has 2,000 to 4,000 characters."""

MAX_URI_HEAD: Final = 300

HOW: Final = (
    "a file part of a multipart form, or in JSON"
    ' {"url": "https://…"} or {"data": "data:image/png;base64,…"}'
)

_URL: Final = re.compile(r"https?:", re.IGNORECASE)
_LINE_BREAKS: Final = re.compile(r" *[\r\n\t\f\v][\r\n\t\f\v ]*")
_BASE64: Final = re.compile(r"[A-Za-z0-9+/]*")
_PLAIN_ALPHABET: Final = str.maketrans("-_", "+/")


@dataclass(frozen=True)
class ImageUrl:
    """Where the client says that its picture lies; nothing is known of the place."""

    url: str


def read_image_field(sent: object) -> bytes | ImageUrl:
    """Return the picture inside `image`, or where it lies.

    Raises:
        InvalidRequest: there is none that can be read; the message says how to send one.
        InvalidImage: the picture's text is damaged.
    """
    name = "image"
    if isinstance(sent, Mapping):
        if len(sent) != 1 or not sent.keys() <= {"url", "data"}:
            raise InvalidRequest(f"image takes {HOW}", param="image")
        ((kind, sent),) = sent.items()
        name = f"image.{kind}"
    if sent is None:
        raise InvalidRequest(f"image is missing; it takes {HOW}", param="image")
    text = sent.strip() if isinstance(sent, str) else ""
    if text[:5].lower() == "data:":
        return _of_data_uri(text)
    if name == "image.url" or (name == "image" and _URL.match(text)):
        return _of_url(text)
    picture = _of_base64(text) if text else None
    if picture is None:
        raise InvalidRequest(f"image takes {HOW}", param="image")
    return picture


def _of_url(url: str) -> ImageUrl:
    if not 0 < len(url) <= MAX_URL:
        raise InvalidRequest(
            f"image.url takes a URL of at most {MAX_URL} characters,"
            " like https://example.org/cat.jpg",
            param="image.url",
        )
    return ImageUrl(url)


def _of_data_uri(text: str) -> bytes:
    comma = text.find(",", 0, MAX_URI_HEAD)
    if comma < 0:
        raise InvalidRequest(f"image takes {HOW}", param="image")
    options = [option.strip().lower() for option in text[:comma].split(";")]
    rest = text[comma + 1 :]
    if "base64" not in options:
        return unquote_to_bytes(rest)
    if "%" in rest:
        rest = unquote_to_bytes(rest).decode("latin-1")
    picture = _of_base64(rest.strip())
    if picture is None:
        raise InvalidImage("the data URI of image is not valid base64", param="image")
    return picture


def _of_base64(text: str) -> bytes | None:
    """Return what a text stands for, with its padding or without, in either alphabet."""
    letters = _without_blanks(text).translate(_PLAIN_ALPHABET).rstrip("=")
    if not _BASE64.fullmatch(letters):
        return None
    try:
        return base64.b64decode(letters + "=" * (-len(letters) % 4), validate=True)
    except (binascii.Error, ValueError):
        return None


def _without_blanks(text: str) -> str:
    """Return base64 without its line breaks, whatever they became on their way.

    In a form a plus sign that was not escaped arrives as a blank. Lines are equally long, but for
    the last; plus signs stand anywhere.
    """
    text = _LINE_BREAKS.sub("", text)
    pieces = text.split(" ")
    *lines, last = pieces
    are_lines = len(lines) > 1 and all(len(line) == len(lines[0]) for line in lines)
    if are_lines and 1 < len(lines[0]) >= len(last):
        return "".join(pieces)
    joined = "+".join(pieces)
    is_fitting = len(joined) % 4 == 0 or (len(text) - len(lines)) % 4 != 0
    return joined if is_fitting else "".join(pieces)
