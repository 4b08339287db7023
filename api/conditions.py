"""What a client says that it has already (RFC 9110, If-None-Match)."""

import re
from typing import Final

_TAG: Final = re.compile(r'(?:W/)?"[^"]*"|\*')


def is_known(etag: str, if_none_match: str | None) -> bool:
    """Say whether the client has the body with this validator; they compare weakly here."""
    tags = {tag.removeprefix("W/") for tag in _TAG.findall(if_none_match or "")}
    return "*" in tags or etag.removeprefix("W/") in tags
