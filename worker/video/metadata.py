"""What an MP4 says about itself: the settings that made it, a title, a description."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

_SPECIAL: Final = re.compile(r"[\\=;#\n\r]")


@dataclass(frozen=True)
class Tags:
    """The texts in an MP4.

    `settings` becomes JSON in the `comment` tag, so that a clip can be made again from its file
    alone; its values are types that `json` takes. A client's text comes back exactly.
    """

    settings: Mapping[str, object]
    title: str = ""
    description: str = ""

    def as_ffmetadata(self) -> bytes:
        """Return the tags in ffmpeg's own text format."""
        entries = {
            "comment": json.dumps(self.settings, ensure_ascii=False),
            "title": self.title,
            "description": self.description,
            "encoding_tool": "Stillreel",  # Tools show it as `encoder`.
        }
        # The NUL ends a value that ends in a backslash, because ffmpeg's reader looks back one
        # letter, and would take the newline after an escaped backslash for an escaped one.
        lines = [f"{key}={_escape(value)}\0" for key, value in entries.items()]
        # A lone surrogate cannot be written in UTF-8 and becomes a question mark.
        return "\n".join([";FFMETADATA1", *lines, ""]).encode(errors="replace")


def _escape(value: str) -> str:
    """Escape what would end the value; an unescaped carriage return starts a new key too."""
    return _SPECIAL.sub(r"\\\g<0>", value.replace("\0", ""))
