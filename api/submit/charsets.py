"""The charsets of forms and their parts: what is read, and what is refused in words."""

from typing import Final

from shared.errors import InvalidRequest
from shared.excerpt import begin, excerpt

_UTF_8: Final = frozenset({"utf-8", "utf8", "us-ascii", "ascii"})
_LATIN: Final = frozenset({"iso-8859-1", "latin-1", "latin1", "windows-1252", "cp1252"})
"""Python has codecs that take the square of a text's length, or make half a character of it."""

_BYTE_ORDER_MARK: Final = "\ufeff"


def check_charset(options: str, *, what: str = "the form", param: str = "Content-Type") -> None:
    """Refuse a text in a charset that no browser uses.

    Args:
        options: the rest of a Content-Type behind its first semicolon.
    """
    charset = charset_of(options)
    if charset not in _UTF_8 | _LATIN:
        raise InvalidRequest(
            f"{what} is in charset {excerpt(charset)}; send it in UTF-8", param=begin(param)
        )


def charset_of(options: str) -> str:
    """Return the charset that these options name, in small letters; UTF-8 if they name none."""
    for option in options.lower().split(";"):
        name, _, value = option.partition("=")
        if name.strip().rstrip("*") == "charset":
            return value.strip(" \t\"'")
    return "utf-8"


def is_utf_8(options: str) -> bool:
    return charset_of(options) in _UTF_8


def readable(text: bytes, options: str = "") -> str:
    """Return a text in UTF-8, or in Latin-1 if it is not UTF-8, as old pages send it."""
    try:
        decoded = text.decode("utf-8" if is_utf_8(options) else "latin-1")
    except UnicodeDecodeError:
        decoded = text.decode("latin-1")
    return decoded.removeprefix(_BYTE_ORDER_MARK)
