"""The image inside a text: a data URI, or base64 in any spelling."""

import base64
import binascii
import re
from typing import Final
from urllib.parse import unquote, unquote_to_bytes

from shared.errors.images import InvalidImage

MAX_URI_HEAD: Final = 300

_AROUND: Final = " \t\r\n\ufeff\"'"
"""What templates leave around a text."""

_ESCAPED: Final = re.compile(r"data%3a", re.IGNORECASE)
_SHORT_HEAD: Final = re.compile(r"(?:[\w.+-]{1,40}/[\w.+-]{1,60};)?base64,", re.IGNORECASE)
_BASE64_HEAD: Final = re.compile(r"(?:[;:])\s*base64\s*,", re.IGNORECASE)
_URL: Final = re.compile(r"https?:", re.IGNORECASE)
_LINE_BREAKS: Final = re.compile(r" *[\r\n\t\f\v][\r\n\t\f\v ]*")
_BASE64: Final = re.compile(r"[A-Za-z0-9+/]*")
_PLAIN_ALPHABET: Final = str.maketrans("-_", "+/")


def is_url(text: str) -> bool:
    return _URL.match(text) is not None


def image_in(text: str, name: str) -> bytes | None:
    """Return the image in a data URI or in base64; None if the text is neither.

    Raises:
        InvalidImage: the data URI is damaged.
    """
    text = text.strip(_AROUND)
    if _ESCAPED.match(text):
        text = unquote(text)
    if _SHORT_HEAD.match(text):
        text = f"data:;{text}"
    if text[:5].lower() == "data:":
        return _of_data_uri(text, name)
    return _of_base64(text) if text else None


def _of_data_uri(text: str, name: str) -> bytes | None:
    # A file's name in the head may have commas.
    head = _BASE64_HEAD.search(text, 0, MAX_URI_HEAD)
    if head is None:
        comma = text.find(",", 0, MAX_URI_HEAD)
        return None if comma < 0 else unquote_to_bytes(text[comma + 1 :])
    rest = text[head.end() :]
    if "%" in rest:
        rest = unquote_to_bytes(rest).decode("latin-1")
    image = _of_base64(rest.strip())
    if image is None:
        raise InvalidImage(f"the data URI of {name} is not valid base64", param=name)
    return image


def _of_base64(text: str) -> bytes | None:
    """Return the bytes of a text, with its padding or without, in either alphabet."""
    letters = _without_blanks(text).translate(_PLAIN_ALPHABET).rstrip("=")
    if not _BASE64.fullmatch(letters):
        return None
    try:
        return base64.b64decode(letters + "=" * (-len(letters) % 4), validate=True)
    except (binascii.Error, ValueError):
        return None


def _without_blanks(text: str) -> str:
    """Return base64 without its line breaks, in any form that they may have.

    In a form a plus sign that was not escaped arrives as a blank. Lines have equal lengths, except
    the last, but plus signs may be anywhere.
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
